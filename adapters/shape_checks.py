"""Shapes of each A/B pair against the base module and the config's rank. Pure.

The engine copies what fits and leaves zeros elsewhere, so a wrong shape must be named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.base_model import BaseModelCard, ModuleShape
from adapters.findings import Finding
from adapters.peft_config import LoraSpec
from adapters.tensor_index import TensorEntry
from adapters.tensor_names import LoraModule
from adapters.tensor_values import SCANNED_DTYPES

Shape = tuple[int, ...]


def check_entries(tensors: Mapping[str, TensorEntry]) -> Iterator[Finding]:
    """Number types that the engine and the standalone side read alike."""
    for entry in tensors.values():
        if entry.dtype not in SCANNED_DTYPES:
            yield Finding("dtype_unsupported", entry.name, entry.dtype, sorted(SCANNED_DTYPES))


def check_shapes(
    modules: Mapping[str, LoraModule],
    tensors: Mapping[str, TensorEntry],
    *,
    spec: LoraSpec,
    card: BaseModelCard,
) -> Iterator[Finding]:
    """A has to be (rank, in) and B (out, rank) of the base's module, with the config's rank."""
    findings: list[Finding] = []
    for name, module in modules.items():
        if len(module.halves) < 2:
            present = "lora_" + next(iter(module.halves))
            findings.append(Finding("pair_incomplete", name, [present], ["lora_A", "lora_B"]))
            continue
        a, b = (tensors[module.halves[side]].shape for side in ("A", "B"))
        finding = _check_pair(name, a, b, rank=spec.rank_of(name), base=card.modules.get(name))
        findings.extend([finding] if finding else [])
    yield from _settle_squares(findings, card)


def _check_pair(
    name: str, a: Shape, b: Shape, *, rank: int, base: ModuleShape | None
) -> Finding | None:
    found = {"lora_A": list(a), "lora_B": list(b)}
    if len(a) != 2 or len(b) != 2:
        return Finding("tensor_not_matrix", name, found, "2 dimensions")
    if base is None:
        # The name is refused anyhow; only the pair itself can be judged.
        return Finding("ranks_disagree", name, found) if a[0] != b[1] else None
    allowed = {"lora_A": [rank, base.in_features], "lora_B": [base.out_features, rank]}
    code = _pair_code(a, b, rank, base)
    return Finding(code, name, found, allowed) if code else None


def _pair_code(a: Shape, b: Shape, rank: int, base: ModuleShape) -> str | None:
    wanted_a, wanted_b = (rank, base.in_features), (base.out_features, rank)
    if (a[1], b[0]) == (base.in_features, base.out_features):
        if a[0] != b[1]:
            return "ranks_disagree"
        return None if a[0] == rank else "rank_differs"
    if (a, b) == (wanted_b, wanted_a):
        return "ab_swapped"
    if a in (wanted_a, wanted_a[::-1]) and b in (wanted_b, wanted_b[::-1]):
        return "tensor_transposed"
    differences = [a[1] - base.in_features, b[0] - base.out_features]
    if all(difference <= 0 for difference in differences):
        return "base_smaller"
    return "base_larger" if all(difference >= 0 for difference in differences) else "shape_differs"


def _settle_squares(findings: list[Finding], card: BaseModelCard) -> Iterator[Finding]:
    """For a square module exchanged and transposed look alike; its oblong neighbours decide."""
    codes = {finding.code for finding in findings if not _is_square(finding, card)}
    for finding in findings:
        if (
            finding.code == "ab_swapped"
            and _is_square(finding, card)
            and "tensor_transposed" in codes
            and "ab_swapped" not in codes
        ):
            yield Finding("tensor_transposed", finding.where, finding.found, finding.allowed)
        else:
            yield finding


def _is_square(finding: Finding, card: BaseModelCard) -> bool:
    base = card.modules.get(finding.where or "")
    return base is not None and base.in_features == base.out_features
