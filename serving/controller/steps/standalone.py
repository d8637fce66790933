"""The gate's first phase: the standalone side alone, before any engine may see the adapter.

A NaN stays in an engine's cache blocks and spoils other tenants' answers until a restart, so what
the standalone model can refuse never gets further than this.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import FingerprintInvalid, StrictLoadFailed
from adapters.manifest import FINGERPRINT_FILE
from adapters.parity.export_check import check_export
from adapters.parity.export_evidence import NO_EVIDENCE, ExportEvidence
from adapters.parity.fingerprint_file import MAX_BYTES, Fingerprint, parse_fingerprint
from adapters.parity.protocol import BaseFacts, EffectRow, SuitePrompt, TokenizedPrompt
from serving.controller.steps.asked import Asked
from serving.controller.steps.context import StepContext
from serving.controller.steps.stages import Stages


@dataclass(frozen=True, slots=True)
class Alone:
    """What the standalone model says of the adapter, no engine involved."""

    base: BaseFacts
    prompts: tuple[TokenizedPrompt, ...]
    effects: tuple[EffectRow, ...] = ()
    export: ExportEvidence = NO_EVIDENCE
    load_problem: str | None = None

    @property
    def may_touch_engines(self) -> bool:
        """Loaded strictly, finite on every prompt, and not known to be other files than trained."""
        return (
            self.load_problem is None
            and all(row.is_finite for row in self.effects)
            and not self.export.is_mismatch
        )


async def examine_alone(
    context: StepContext,
    folder: Path,
    asked: Asked,
    stages: Stages,
    *,
    digest: str,
    dtype: str,
) -> Alone:
    """Load strictly, read every prompt in `dtype`, and compare with the training fingerprint.

    Kept by content (base, adapter with its fingerprint, suite, number type, libraries): the same
    adapter under another name, or a second try, is not examined again.

    Raises:
        ReferenceFailed: the standalone process could not do its work.
        SuiteInvalid: a case cannot be formatted with the base's chat template.
        StoreUnavailable: the store does not answer.
    """
    reference = context.reference
    base = await reference.load_base(
        str(context.settings.model),
        dtype=dtype,
        on_waiting=lambda why: stages.wait("waiting_for_reference", why),
    )
    parts = {
        "base": base.revision,
        "model": base.model,
        "adapter": digest,
        "suite": asked.suite.digest,
        "dtype": base.dtype,
        "versions": base.versions,
    }
    prompts = asked.suite.to_prompts()
    return await stages.once(
        "reference", parts, Alone, lambda: _examine(context, folder, prompts, stages, base)
    )


async def _examine(
    context: StepContext,
    folder: Path,
    prompts: list[SuitePrompt],
    stages: Stages,
    base: BaseFacts,
) -> Alone:
    reference = context.reference
    tokenized = tuple(await reference.tokenize(prompts))
    try:
        alone = await reference.check_finite(
            folder,
            tokenized,
            on_progress=lambda done, total: stages.progress("reference", done, total),
        )
        fingerprint = await asyncio.to_thread(_read_fingerprint, folder)
    except StrictLoadFailed as exc:
        return Alone(base, tokenized, load_problem=str(exc))
    except FingerprintInvalid as exc:
        # Validation refuses such a file; a version that got here was validated by older rules.
        return Alone(base, tokenized, load_problem=str(exc))
    export = NO_EVIDENCE
    if not alone.non_finite_cases:
        export = await check_export(reference, folder, fingerprint, alone=alone, base=base)
    return Alone(base, tokenized, alone.effects, export)


def _read_fingerprint(folder: Path) -> Fingerprint | None:
    path = folder / FINGERPRINT_FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return parse_fingerprint(file.read(MAX_BYTES + 1))
