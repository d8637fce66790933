"""Under which key a result of the standalone side may be kept and used again. Pure.

A key names everything that the result depends on: which weights, which adapter, which cases, in
which number type, computed by which libraries. Nothing in it is a label that could be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence


def reference_key(
    *,
    base_revision: str,
    adapter_digest: str | None,
    suite_digest: str,
    dtype: str,
    versions: Mapping[str, str],
    op: str,
) -> str:
    """`sha256:...` of one stage's result on the standalone side.

    Args:
        base_revision: content revision of the base (`BaseFacts.revision`), not its name.
        adapter_digest: digest of the adapter's files; None: the base alone.
        suite_digest: digest of the cases; for a stage that reads answers, use `inputs_digest` of
            suite and answers, because other answers have other results.
        dtype: number type of the forward passes.
        versions: library versions (`BaseFacts.versions`); their order does not matter.
        op: which stage: `check_finite`, `verify`, `continue_from`...; of a runner: `name/op`.
    """
    content = {
        "base": base_revision,
        "adapter": adapter_digest,
        "suite": suite_digest,
        "dtype": dtype,
        "versions": dict(versions),
        "op": op,
    }
    return _digest(content)


def inputs_digest(suite_digest: str, token_ids: Sequence[Sequence[int]]) -> str:
    """`sha256:...` over a suite and the answers to it, in order: what a `verify` depends on."""
    return _digest([suite_digest, [list(item) for item in token_ids]])


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
