"""The first gate, from files alone: seconds, no GPU, no torch.

`preflight` is pure: facts in, findings out. `check_folder` gathers the facts from a folder; it is
what `loraplane check` and the controller's validate step call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModelCard, chat_template_hash, tokenizer_hash
from adapters.errors import ArtifactRefused, ConfigInvalid, TensorFileInvalid
from adapters.findings import Finding, Severity
from adapters.limits import EngineLimits
from adapters.manifest import (
    CONFIG_FILE,
    FINGERPRINT_FILE,
    PICKLE_SUFFIXES,
    TENSOR_FILE,
    TOKENIZER_FILES,
)
from adapters.name_checks import check_names, check_patterns, check_targets
from adapters.peft_config import MAX_CONFIG_BYTES, LoraSpec, parse_lora_config
from adapters.shape_checks import check_entries, check_shapes
from adapters.tensor_index import TensorIndex, read_tensor_index
from adapters.tensor_names import classify_other, group_modules
from adapters.tensor_values import TensorStats, scan_values
from adapters.value_checks import check_scaling, check_values

MAX_SHOWN_PER_CODE = 5
"""The same finding on 200 modules is told five times and then counted."""


def preflight(
    spec: LoraSpec,
    index: TensorIndex,
    card: BaseModelCard,
    limits: EngineLimits,
    *,
    values: Mapping[str, TensorStats] | None = None,
) -> tuple[Finding, ...]:
    """All findings that config, tensor header, base and engine limits allow, blocking ones first.

    `values` are `scan_values` of the same file; without them the values are not judged.
    """
    modules, others = group_modules(index.tensors)
    found: list[Iterable[Finding]] = [
        spec.findings,
        _check_config(spec, card, limits),
        (Finding(classify_other(name), name) for name in others),
        () if modules else (Finding("tensors_empty", None, len(index.tensors)),),
        check_entries(index.tensors),
        check_names(modules, card, limits),
        check_targets(modules, spec, card),
        check_patterns(modules, spec),
        check_shapes(modules, index.tensors, spec=spec, card=card),
        check_scaling(modules, spec),
    ]
    if values is not None:
        found.append(check_values(modules, values, spec=spec, limits=limits))
    return condense(chain.from_iterable(found))


def _check_config(spec: LoraSpec, card: BaseModelCard, limits: EngineLimits) -> Iterator[Finding]:
    if spec.max_rank > limits.max_rank:
        yield Finding("rank_above_limit", "r", spec.max_rank, limits.max_rank)
    if spec.base_model_name is None:
        yield Finding("base_name_missing", "base_model_name_or_path")
    elif _last_part(spec.base_model_name) != _last_part(card.name):
        yield Finding(
            "base_name_differs", "base_model_name_or_path", spec.base_model_name[:200], card.name
        )


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()


def condense(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Blocking first, then by code's first appearance; many of one code end in a count."""
    order = list(Severity)
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    result: list[Finding] = []
    for group in sorted(by_code.values(), key=lambda group: order.index(group[0].severity)):
        result.extend(group[:MAX_SHOWN_PER_CODE])
        if len(group) > MAX_SHOWN_PER_CODE:
            more = len(group) - MAX_SHOWN_PER_CODE
            result.append(Finding(group[0].code, f"and {more} more"))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """Findings of one folder, with what could be read; unreadable parts are None."""

    findings: tuple[Finding, ...]
    spec: LoraSpec | None = None
    n_modules: int = 0
    size_bytes: int = 0

    @property
    def is_blocked(self) -> bool:
        """Whether any finding refuses the adapter."""
        return any(finding.is_blocking for finding in self.findings)

    def raise_if_blocked(self) -> None:
        """Turn blocking findings into an error.

        Raises:
            ArtifactRefused: with all findings, when one of them blocks.
        """
        if self.is_blocked:
            raise ArtifactRefused(findings=[finding.to_json() for finding in self.findings])

    def to_json(self) -> dict[str, Any]:
        """For registry rows, the API and `loraplane check --json`."""
        return {
            "blocked": self.is_blocked,
            "counts": dict(Counter(finding.severity.value for finding in self.findings)),
            "rank": self.spec.max_rank if self.spec else None,
            "alpha": self.spec.alpha if self.spec else None,
            "base_model_name": self.spec.base_model_name if self.spec else None,
            "n_modules": self.n_modules,
            "size_bytes": self.size_bytes,
            "findings": [finding.to_json() for finding in self.findings],
        }


def check_folder(path: Path, card: BaseModelCard, limits: EngineLimits) -> PreflightReport:
    """Preflight of an adapter's folder, values included; reads every byte once, in small pieces.

    What is wrong with the files is in the report, never raised.

    Raises:
        OSError: the folder itself cannot be listed or a file in it cannot be opened.
    """
    names = {entry.name for entry in path.iterdir() if entry.is_file()}
    findings = list(_check_file_names(names))
    findings.extend(_check_tokenizer(path, card))
    spec = _read_config(path, names, findings)
    index, values = _read_tensors(path, names, findings)
    if spec is not None and index is not None:
        findings.extend(preflight(spec, index, card, limits, values=values))
    elif spec is not None:
        findings.extend(chain(spec.findings, _check_config(spec, card, limits)))
    return PreflightReport(
        findings=condense(findings),
        spec=spec,
        n_modules=len(group_modules(index.tensors)[0]) if index else 0,
        size_bytes=index.size_bytes if index else 0,
    )


def _check_file_names(names: set[str]) -> Iterator[Finding]:
    if CONFIG_FILE not in names:
        yield Finding("config_missing", CONFIG_FILE)
    has_tensors = TENSOR_FILE in names
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if not has_tensors:
        yield from (Finding("pickled_weights", name, name, TENSOR_FILE) for name in pickles)
        yield Finding("tensors_missing", TENSOR_FILE, sorted(names)[:20])
    if FINGERPRINT_FILE not in names:
        yield Finding("fingerprint_absent", FINGERPRINT_FILE)
    ignored = names - {CONFIG_FILE, TENSOR_FILE, FINGERPRINT_FILE}
    if not has_tensors:
        ignored -= set(pickles)
    yield from (Finding("file_ignored", name) for name in sorted(ignored))


def _check_tokenizer(path: Path, card: BaseModelCard) -> Iterator[Finding]:
    for where, found, allowed in (
        (TOKENIZER_FILES[0], tokenizer_hash(path), card.tokenizer_hash),
        (TOKENIZER_FILES[1], chat_template_hash(path), card.chat_template_hash),
    ):
        if found is not None and found != allowed:
            yield Finding("tokenizer_ignored", where, found, allowed)


def _read_config(path: Path, names: set[str], findings: list[Finding]) -> LoraSpec | None:
    if CONFIG_FILE not in names:
        return None
    with (path / CONFIG_FILE).open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    try:
        return parse_lora_config(data)
    except ConfigInvalid as exc:
        where = exc.fields["field"] or CONFIG_FILE
        findings.append(Finding("config_unreadable", where, exc.fields["problem"]))
        return None


def _read_tensors(
    path: Path, names: set[str], findings: list[Finding]
) -> tuple[TensorIndex | None, dict[str, TensorStats]]:
    if TENSOR_FILE not in names:
        return None, {}
    try:
        index = read_tensor_index(path / TENSOR_FILE)
        return index, scan_values(path / TENSOR_FILE, index)
    except TensorFileInvalid as exc:
        findings.append(Finding("tensors_unreadable", exc.fields["tensor"], exc.fields["reason"]))
        return None, {}
