"""Levels 2 and 3: are the engine's answers the standalone model's, and are they right? Pure.

Each case is answered by the engine (in every repeat) and by the standalone model; where the gold is
known also by the version that is live now, so that a version which serves faithfully but does its
job worse than the one before is seen too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.parity.comparison import Comparison, ComparisonRules, PairedScore, compare
from adapters.parity.scoring import (
    AnswerEquality,
    CaseScore,
    TaskMetrics,
    compare_answers,
    score_answer,
    summarise,
)
from adapters.parity.suite import Case

ENGINE, STANDALONE, LIVE = "engine", "standalone", "live"
_WORST = (AnswerEquality.EXACT, AnswerEquality.EQUIVALENT, AnswerEquality.DIFFERENT)


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """Texts by case id; a case that one side did not answer is absent there."""

    cases: tuple[Case, ...] = ()
    engine: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """In order of the repeats."""
    standalone: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)
    live_version: str | None = None


@dataclass(frozen=True, slots=True)
class CaseTask:
    """One case's levels 2 and 3. None: one side has no answer, or the case no gold."""

    case_id: str
    segment: str
    equality: AnswerEquality | None
    """The worst over the repeats."""
    engine: tuple[CaseScore, ...]
    """By repeat; empty without gold."""
    standalone: CaseScore | None
    live: CaseScore | None


@dataclass(frozen=True, slots=True)
class EqualityCounts:
    """Level 2 over some cases; `n` counts those that both sides answered."""

    n: int
    n_exact: int
    n_equivalent: int
    n_different: int


@dataclass(frozen=True, slots=True)
class TaskMeasurements:
    """Levels 2 and 3 of one candidate. A comparison is None where there is nothing to compare."""

    cases: tuple[CaseTask, ...] = ()
    n_gold: int = 0
    """Cases of the suite with a gold answer, answered or not."""
    n_scored: int = 0
    """Gold cases that the engine and the standalone model both answered."""
    serving: Comparison | None = None
    """Standalone before, engine after: does serving change the answers' worth?"""
    live: Comparison | None = None
    """Live version before, this version after, both on the engine."""
    live_version: str | None = None
    pass_rates: tuple[float, ...] | None = None
    """Of each repeat, over the cases that every repeat answered."""

    @property
    def pass_rate_spread(self) -> float | None:
        """Largest less smallest pass rate of the repeats; None with fewer than two."""
        if self.pass_rates is None or len(self.pass_rates) < 2:
            return None
        return max(self.pass_rates) - min(self.pass_rates)


NO_TASK = TaskMeasurements()


def measure_task(inputs: TaskInputs, rules: ComparisonRules) -> TaskMeasurements:
    """Score and compare every answer of every side."""
    cases = tuple(_measure_case(case, inputs) for case in inputs.cases)
    return TaskMeasurements(
        cases=cases,
        n_gold=sum(case.expect is not None for case in inputs.cases),
        n_scored=sum(bool(item.engine) and item.standalone is not None for item in cases),
        serving=_compare(cases, lambda item: item.standalone, rules, before_name=STANDALONE),
        live=_compare(cases, lambda item: item.live, rules, before_name=inputs.live_version or LIVE)
        if inputs.live_version
        else None,
        live_version=inputs.live_version,
        pass_rates=_pass_rates(cases),
    )


def count_equality(cases: Sequence[CaseTask]) -> EqualityCounts:
    """Level 2 over `cases`."""
    seen = [item.equality for item in cases if item.equality is not None]
    exact, equivalent, different = (sum(one is kind for one in seen) for kind in _WORST)
    return EqualityCounts(len(seen), exact, equivalent, different)


def summarise_sides(cases: Sequence[CaseTask]) -> dict[str, dict[str, Any]]:
    """Level 3 measures over `cases`: `{measure: {standalone, engine, live}}`; None: undefined."""
    sides: dict[str, TaskMetrics] = {
        STANDALONE: summarise([item.standalone for item in cases if item.standalone]),
        ENGINE: summarise([item.engine[0] for item in cases if item.engine]),
        LIVE: summarise([item.live for item in cases if item.live]),
    }
    by_side = {name: metrics.to_json() for name, metrics in sides.items()}
    return {
        measure: {name: by_side[name][measure] for name in sides} for measure in by_side[ENGINE]
    }


def _measure_case(case: Case, inputs: TaskInputs) -> CaseTask:
    texts = inputs.engine.get(case.id, ())
    standalone, live = inputs.standalone.get(case.id), inputs.live.get(case.id)
    scores: dict[str, CaseScore | None] = {}

    def score(text: str) -> CaseScore | None:
        # Repeats mostly say the same.
        if text not in scores:
            scores[text] = score_answer(case, text)
        return scores[text]

    return CaseTask(
        case_id=case.id,
        segment=case.segment,
        equality=_worst_equality(case, texts, standalone),
        engine=tuple(item for item in map(score, texts) if item is not None),
        standalone=None if standalone is None else score(standalone),
        live=None if live is None else score(live),
    )


def _worst_equality(
    case: Case, texts: Sequence[str], standalone: str | None
) -> AnswerEquality | None:
    if standalone is None or not texts:
        return None
    found = {compare_answers(case, text, standalone) for text in dict.fromkeys(texts)}
    return max(found, key=_WORST.index)


def _compare(
    cases: Sequence[CaseTask],
    before: Callable[[CaseTask], CaseScore | None],
    rules: ComparisonRules,
    *,
    before_name: str,
) -> Comparison | None:
    pairs = []
    for item in cases:
        earlier = before(item)
        if earlier is not None and item.engine:
            after = item.engine[0]
            pairs.append(
                PairedScore(
                    item.case_id, item.segment, float(earlier.is_pass), float(after.is_pass)
                )
            )
    return (
        compare(pairs, rules=rules, before_name=before_name, after_name=ENGINE) if pairs else None
    )


def _pass_rates(cases: Sequence[CaseTask]) -> tuple[float, ...] | None:
    n_repeats = max((len(item.engine) for item in cases), default=0)
    whole = [item.engine for item in cases if len(item.engine) == n_repeats]
    if not n_repeats:
        return None
    return tuple(
        sum(scores[repeat].is_pass for scores in whole) / len(whole) for repeat in range(n_repeats)
    )
