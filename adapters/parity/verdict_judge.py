"""The verdict's reasons from the judges of free-text answers. Pure.

Judges are asked where the policy says so. They count against a version only with a proven majority
for the answers before; whatever keeps them from deciding leaves the question open.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.parity.gate_plan import Measurements
from adapters.parity.judge_outcome import (
    MIN_ACCEPTED,
    MIN_CONSISTENCY,
    MIN_JUDGES,
    JudgeOutcome,
    JudgeRecord,
)
from adapters.parity.policy import GatePolicy
from adapters.parity.reasons import Reason


def judge_against(measured: Measurements) -> Iterator[Reason]:
    """Judges prefer the answers before, beyond the margin and proven."""
    outcome = measured.judge
    if outcome is not None and outcome.is_worse:
        yield Reason("judges_prefer_before", _counts(outcome))


def judge_open_questions(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    """Judges are asked for and could not decide."""
    outcome = measured.judge
    if not policy.use_judges:
        return
    if outcome is None:
        yield Reason("judges_unusable", "the policy asks for judges, and none was asked")
    elif outcome.is_missing:
        text = (
            f"the policy asks for judges, and {len(outcome.judges)} are configured, {MIN_JUDGES} "
            "are needed (setting: judges)"
        )
        yield Reason("judges_missing", text)
    elif not outcome.is_usable:
        yield Reason("judges_unusable", _why_unusable(outcome))


def judge_notes(measured: Measurements) -> Iterator[Reason]:
    """What was judged, and by whom."""
    outcome = measured.judge
    if outcome is None or outcome.is_missing:
        return
    if not outcome.total.n_pairs:
        text = (
            "there was nothing to judge: the suite has no free-text cases that both sides answered"
        )
        yield Reason("judged", text)
        return
    if outcome.is_worse is False:
        yield Reason("judged", _counts(outcome))
    for judge in outcome.judges:
        if outcome.total.n_asked and not judge.is_accepted:
            yield Reason("judge_not_counted", _why_not(judge))


def _counts(outcome: JudgeOutcome) -> str:
    total = outcome.total
    text = (
        f"of {total.n_pairs} free-text cases judges prefer {outcome.before_name} in "
        f"{total.n_before_preferred}, the engine in {total.n_after_preferred}; {total.n_ties} ties "
        f"({total.n_equal} equal answers), {total.n_dropped} dropped without a majority; "
        f"{outcome.n_accepted} of {len(outcome.judges)} judges count"
    )
    return text if outcome.worse_p is None else f"{text}, one-sided p = {outcome.worse_p:.2g}"


def _why_unusable(outcome: JudgeOutcome) -> str:
    if outcome.n_accepted >= MIN_ACCEPTED:
        return f"none of {outcome.total.n_asked} pairs has a majority among the judges"
    others = "; ".join(_why_not(judge) for judge in outcome.judges if not judge.is_accepted)
    return f"{outcome.n_accepted} judges count, {MIN_ACCEPTED} are needed: {others}"


def _why_not(judge: JudgeRecord) -> str:
    if judge.problem is not None:
        return f"judge {judge.name}: {judge.problem}"
    if judge.consistency is None:
        return f"judge {judge.name} was asked nothing"
    return (
        f"judge {judge.name} agrees with itself in {judge.n_consistent} of {judge.n} pairs "
        f"({judge.consistency:.0%}) when the order is exchanged, at least {MIN_CONSISTENCY:.0%} "
        f"is asked; {judge.n_invalid} of {judge.n_questions} answers were no vote"
    )
