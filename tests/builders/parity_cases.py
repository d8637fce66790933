"""Measurements of imaginary candidates: a good one, and ways to spoil it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters.parity.export_evidence import ExportEvidence, ExportStatus
from adapters.parity.gate_plan import (
    GateInputs,
    NoiseFloor,
    measure_floor,
    plan_verification,
)
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.protocol import EffectRow, VerifyItem, VerifyRow

MATCHED = ExportEvidence(ExportStatus.MATCHED, n_modules=14, n_answers=4)


def answer(case: int, repeat: int = 0, *, n: int = 10, shift: float = 0.0) -> CandidateAnswer:
    return CandidateAnswer(
        case_id=f"case-{case}",
        repeat=repeat,
        prompt_token_ids=(1, case),
        token_ids=tuple(100 + i for i in range(n)),
        logprobs=tuple(-0.5 + shift for _ in range(n)),
    )


def row_for(
    item: VerifyItem,
    *,
    delta: float = 0.0,
    effect: float | None = 1.5,
    divergent: dict[int, float] | None = None,
) -> VerifyRow:
    """The standalone view: `delta` nats away everywhere; `divergent`: position -> margin."""
    n = len(item.token_ids)
    divergent = divergent or {}
    logprobs = tuple(-0.5 - delta for _ in range(n))
    return VerifyRow(
        case_id=item.case_id,
        is_finite=True,
        argmax_ids=tuple(7 if i in divergent else item.token_ids[i] for i in range(n)),
        argmax_logprobs=tuple(logprobs[i] + divergent.get(i, 0.0) for i in range(n)),
        token_logprobs=logprobs,
        base_token_logprobs=None if effect is None else tuple(v - effect for v in logprobs),
    )


def floor(*, n_cases: int = 8, delta: float = 1e-5, dtype: str = "float32") -> NoiseFloor:
    answers = [answer(case) for case in range(n_cases)]
    rows = {item: row_for(item, delta=delta) for item in plan_verification(answers)}
    return measure_floor(
        answers, rows, engine_build="e", base_revision="r", dtype=dtype, suite_digest="s"
    )


def inputs(
    *,
    n_cases: int = 8,
    n_repeats: int = 3,
    dtype: str = "float32",
    row: dict[str, Any] | None = None,
    **changes: Any,
) -> GateInputs:
    """A candidate that passes; `row` goes to every `row_for`, `changes` replace fields."""
    answers = tuple(answer(c, r) for r in range(n_repeats) for c in range(n_cases))
    good = GateInputs(
        case_ids=tuple(f"case-{case}" for case in range(n_cases)),
        dtype=dtype,
        export=MATCHED,
        effects=tuple(EffectRow(f"case-{c}", True, 1.0, 2.0) for c in range(n_cases)),
        answers=answers,
        rows={item: row_for(item, **(row or {})) for item in plan_verification(answers)},
        floor=floor(dtype=dtype),
    )
    return replace(good, **changes)
