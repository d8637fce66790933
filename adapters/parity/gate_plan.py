"""The gate between the standalone side and the engine: what to ask, and what was measured. Pure.

How a caller strings it together (the controller's evaluate step does):

    facts   = await client.load_base(model, dtype=...)                  # reference_client
    prompts = await client.tokenize(suite.to_prompts())
    alone   = await client.check_finite(folder, prompts)           # strict load, finite, effect
    export  = await check_export(client, folder, fingerprint, alone=alone, base=facts)  # link A
    # Any of: StrictLoadFailed, alone.non_finite_cases, export.is_mismatch -> decide() now, with
    # answers=() and rows={}: such an adapter never touches an engine that tenants share.
    answers = (engine answers every prompt `repeats` times, in mixed traffic)
    rows    = dict(zip(plan, await client.verify(folder, plan, against_base=True)))
              with plan = plan_verification(answers)
    floor   = measure_floor(base_answers, base_rows, ...)  # the base's turn; cache by floor_key
    measured = measure(GateInputs(...))
    verdict  = decide(measured, policy)                     # verdict
    probe    = select_probe(inputs, measured)               # report
    report   = build_report(...)                            # report
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from adapters.parity.comparison import ComparisonRules
from adapters.parity.contamination import ContaminationReport
from adapters.parity.distributions import (
    PROBABILITIES,
    Distributions,
    Quantiles,
    effect_quantiles,
    engine_quantiles,
)
from adapters.parity.export_evidence import ExportEvidence
from adapters.parity.judge_outcome import JudgeOutcome
from adapters.parity.numeric import (
    AnswerNumbers,
    CandidateAnswer,
    NumericTotals,
    RepeatNumbers,
    Verified,
    measure_answer,
    measure_repeats,
    resolution_of,
    total,
)
from adapters.parity.protocol import EffectRow, VerifyItem
from adapters.parity.reasons import Reason
from adapters.parity.task_measure import NO_TASK, TaskInputs, TaskMeasurements, measure_task

_P99 = PROBABILITIES.index(0.99)


def plan_verification(answers: Sequence[CandidateAnswer]) -> list[VerifyItem]:
    """Each distinct answer once, in order of first appearance: equal repeats are read once."""
    return list(dict.fromkeys(answer.item for answer in answers))


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Negative control: the base through the engine against the base reference, same method."""

    engine_build: str
    base_revision: str
    dtype: str
    suite_digest: str
    totals: NumericTotals
    quantiles: Quantiles | None = None
    """Of |delta logprob| per token."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NoiseFloor:
        """Read a cached floor.

        Raises:
            KeyError, TypeError: not what `to_json` writes.
        """
        totals, quantiles = NumericTotals(**data["totals"]), data.get("quantiles")
        kept = None if quantiles is None else tuple(quantiles)
        return cls(**{**data, "totals": totals, "quantiles": kept})


def floor_key(*, engine_build: str, base_revision: str, dtype: str, suite_digest: str) -> str:
    """Cache key of a noise floor: `sha256:...` over everything that it depends on."""
    parts = json.dumps([engine_build, base_revision, dtype, suite_digest])
    return "sha256:" + hashlib.sha256(parts.encode()).hexdigest()


def measure_floor(
    answers: Sequence[CandidateAnswer],
    rows: Verified,
    *,
    engine_build: str,
    base_revision: str,
    dtype: str,
    suite_digest: str,
) -> NoiseFloor:
    """The base's disagreement with itself across the two implementations."""
    tie = resolution_of(dtype).tie_margin_nats
    numbers = [measure_answer(item, rows[item.item], tie_margin_nats=tie) for item in answers]
    quantiles = engine_quantiles(answers, rows)
    return NoiseFloor(
        engine_build, base_revision, dtype, suite_digest, total(numbers), quantiles=quantiles
    )


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Everything that was observed of one candidate; empty or None where not reached."""

    case_ids: tuple[str, ...]
    dtype: str
    export: ExportEvidence
    effects: tuple[EffectRow, ...] = ()
    answers: tuple[CandidateAnswer, ...] = ()
    rows: Verified = field(default_factory=dict)
    floor: NoiseFloor | None = None
    load_problem: str | None = None
    """Set when strict loading failed: one sentence."""
    task: TaskInputs = field(default_factory=TaskInputs)
    rules: ComparisonRules = field(default_factory=ComparisonRules)
    contamination: ContaminationReport | None = None
    """Of the suite against its training set; None: no training set was given."""
    n_excluded: int = 0
    """Cases of the suite that were left out: leaked from training, or too long."""
    runner: str = "peft"
    """What gave the standalone side's texts: `policy.Runner`."""
    judge: JudgeOutcome | None = None
    """What judges said of free-text answers; None: they were not asked."""
    runner_notes: tuple[Reason, ...] = ()
    """What a report must say of that runner."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """The numbers that a verdict is made of. None: undefined or not reached."""

    dtype: str
    n_cases: int
    n_answered_cases: int
    """Cases with an answer in every repeat."""
    export: ExportEvidence
    load_problem: str | None
    non_finite_cases: tuple[str, ...]
    numeric: NumericTotals
    per_answer: tuple[AnswerNumbers, ...]
    repeats: RepeatNumbers
    floor: NoiseFloor | None
    effect_nats: float | None
    """Mean |delta logprob|, adapter against base, over the answers' tokens (standalone side)."""
    effect_by_case: Mapping[str, float]
    n_unexplained: int = 0
    """Diverged positions whose margin neither a near-tie nor the candidate's own noise explains."""
    distributions: Distributions = field(default_factory=Distributions)
    task: TaskMeasurements = NO_TASK
    contamination: ContaminationReport | None = None
    n_excluded: int = 0
    runner: str = "peft"
    judge: JudgeOutcome | None = None
    runner_notes: tuple[Reason, ...] = ()


def measure(inputs: GateInputs) -> Measurements:
    """Turn observations into numbers.

    Raises:
        KeyError: an answer without its row in `inputs.rows`.
    """
    tie = resolution_of(inputs.dtype).tie_margin_nats
    numbers = tuple(
        measure_answer(item, inputs.rows[item.item], tie_margin_nats=tie) for item in inputs.answers
    )
    repeats = measure_repeats(inputs.answers)
    poisoned = [row.case_id for row in inputs.effects if not row.is_finite]
    poisoned += [item.case_id for item in numbers if not item.is_finite]
    effect_by_case = _effects(inputs)
    own = engine_quantiles(inputs.answers, inputs.rows)
    return Measurements(
        dtype=inputs.dtype,
        n_cases=len(inputs.case_ids),
        n_answered_cases=_n_answered(inputs, n_repeats=repeats.n_repeats),
        export=inputs.export,
        load_problem=inputs.load_problem,
        non_finite_cases=tuple(dict.fromkeys(poisoned)),
        numeric=total(numbers),
        per_answer=numbers,
        repeats=repeats,
        floor=inputs.floor,
        effect_nats=_mean_effect(inputs),
        effect_by_case=effect_by_case,
        n_unexplained=_n_unexplained(numbers, own, tie_margin_nats=tie),
        distributions=Distributions(
            candidate=own,
            negative=inputs.floor.quantiles if inputs.floor else None,
            positive=effect_quantiles(inputs.rows),
        ),
        task=measure_task(inputs.task, inputs.rules) if inputs.task.engine else NO_TASK,
        contamination=inputs.contamination,
        n_excluded=inputs.n_excluded,
        runner=inputs.runner,
        judge=inputs.judge,
        runner_notes=inputs.runner_notes,
    )


def _n_unexplained(
    numbers: Sequence[AnswerNumbers], own: Quantiles | None, *, tie_margin_nats: float
) -> int:
    """Divergences that noise does not explain.

    Two logprobs that are each off by up to d change places only within a margin of 2 d. With large
    logits, as strong adapters make them, rounding is coarser than the base's; d is therefore the
    99th percentile of the candidate's own differences. Whether those are small enough at all is
    judged by their mean.
    """
    noise = own[_P99] if own is not None else 0.0
    explained = max(tie_margin_nats, 2.0 * noise)
    return sum(margin > explained for item in numbers for margin in item.margins_nats)


def _n_answered(inputs: GateInputs, *, n_repeats: int) -> int:
    seen: dict[str, set[int]] = {}
    for answer in inputs.answers:
        if answer.token_ids:
            seen.setdefault(answer.case_id, set()).add(answer.repeat)
    return sum(len(seen.get(case_id, ())) == n_repeats > 0 for case_id in inputs.case_ids)


def _token_effects(inputs: GateInputs) -> dict[VerifyItem, list[float]]:
    return {
        item: [abs(a - b) for a, b in zip(row.token_logprobs, row.base_token_logprobs, strict=True)]
        for item, row in inputs.rows.items()
        if row.is_finite and row.base_token_logprobs
    }


def _mean_effect(inputs: GateInputs) -> float | None:
    deltas = [delta for deltas in _token_effects(inputs).values() for delta in deltas]
    if deltas:
        return math.fsum(deltas) / len(deltas)
    # Before the engine has answered there are only the prompts to see an effect on.
    means = [row.mean_nats for row in inputs.effects if row.mean_nats is not None]
    return math.fsum(means) / len(means) if means else None


def _effects(inputs: GateInputs) -> dict[str, float]:
    effects: dict[str, float] = {
        row.case_id: row.mean_nats for row in inputs.effects if row.mean_nats is not None
    }
    for item, deltas in _token_effects(inputs).items():
        effects[item.case_id] = math.fsum(deltas) / len(deltas)
    return effects
