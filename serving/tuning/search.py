"""Which round to measure next, and when to stop: a pure function of what was measured so far.

Starts of engines are what a search pays for, so few settings are started, each chosen for what it
is expected to gain (Bayesian search, `surrogate`), and on a started engine rounds are added only
until the setting is told apart from the best so far (a race, `race`). docs/adr/0014 says why.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from serving.tuning.goals import CAPACITY, Goals
from serving.tuning.race import Evidence, Round, Rules, Standing, standing
from serving.tuning.space import LeftOut, Load, Setting, effect_of
from serving.tuning.surrogate import Guess, Known, Place, guess, overhead_tokens, place_of

_NO_LIMIT = 0.0
"""An excess of at most this keeps a bound."""
_GOAL_DEVIATION, _BOUND_DEVIATION = 0.1, 0.02
"""Of a round's logarithms, while no setting has two: arbitrary, of the size seen on a CPU."""


_CONTENDER = 0.8
"""A setting that is not even at this confidence worse than the best may still be it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a search is about; it does not change while it runs."""

    start: Setting
    candidates: tuple[Setting, ...]
    load: Load
    goals: Goals
    reference: Setting | None = None
    """Chunked prefill off: measured to be shown, never recommended."""
    rules: Rules = field(default_factory=Rules)
    budget_seconds: float = math.inf
    """Of engine time: starts, warm-ups, rounds and stops."""
    min_gain: float = 0.02
    """The search ends when no setting is expected to make the goal better by this share."""
    leap: float = 0.15
    """A setting is left before it is told from the best where another promises this much more."""
    assumed_budget: int = 2048
    """Where vLLM's own max_num_batched_tokens is taken to lie."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that the next steps are expected to take."""

    start: float
    """From nothing to warm, and the end of it."""
    round: float


@dataclass(frozen=True, slots=True)
class State:
    """What was done so far."""

    rounds: Sequence[Round] = ()
    failed: Mapping[Setting, str] = field(default_factory=lambda: MappingProxyType({}))
    """Settings whose engine did not start or did not answer, and the reason."""
    spent_seconds: float = 0.0
    costs: Costs = Costs(60.0, 30.0)
    is_running: Setting | None = None
    """The setting whose engine is up: its next round costs no start."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One more round of a setting."""

    setting: Setting
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more to measure."""

    reason: str


def evidence_of(plan: Plan, state: State) -> Evidence:
    """What was measured, read with the plan's goals."""
    return Evidence(plan.start, plan.goals, state.rounds, frozenset(state.failed))


def next_step(plan: Plan, state: State) -> Measure | Stop:
    """The same for the same plan and state, so a search that was killed goes on where it was."""
    evidence = evidence_of(plan, state)
    if plan.start in state.failed:
        return Stop(f"the start's engine failed: {state.failed[plan.start]}")
    n_rounds = evidence.n_rounds(plan.start)
    if n_rounds < plan.rules.start_rounds:
        return _step(plan.start, n_rounds, "the start, which all others are compared with")
    if math.isnan(evidence.goal_estimate(plan.start)):
        return Stop(f"the start's {plan.goals.metric} is not defined under this load")
    n_rounds = evidence.n_rounds(plan.reference) if plan.reference else 0
    if (
        plan.reference
        and plan.reference not in state.failed
        and n_rounds < plan.rules.min_rounds
        and _is_affordable(plan, state, plan.reference)
    ):
        return _step(plan.reference, n_rounds, "the reference, without chunked prefill")
    promise = _most_promising(plan, state, evidence)
    for setting in _unsettled(plan, state, evidence):
        if _is_next(plan, state, evidence, setting, promise):
            return _step(setting, evidence.n_rounds(setting), "not told from the best yet")
    return _next_setting(plan, state, promise)


def exhaustive_step(plan: Plan, state: State) -> Measure | Stop:
    """Every setting in turn, with all its rounds: what a search is held against."""
    evidence = evidence_of(plan, state)
    every = [plan.start, plan.reference, *plan.candidates]
    for setting in every:
        if setting is None or setting in state.failed:
            continue
        n_rounds = evidence.n_rounds(setting)
        if n_rounds < plan.rules.max_rounds:
            return _step(setting, n_rounds, "every setting")
    return Stop("every setting was measured")


def _is_next(
    plan: Plan, state: State, evidence: Evidence, setting: Setting, promise: _Promise | None
) -> bool:
    """Whether an unsettled setting comes before a new one.

    Where another promises a leap, this one will not be the best, and to know exactly by how much
    it is not costs rounds that decide nothing. One that is down already costs a start besides: it
    is gone back to when there is nothing new to try, and only if it may well be the best.
    """
    gain = promise.gain if promise is not None and promise.has_best else 0.0
    if evidence.n_rounds(setting) < plan.rules.min_rounds:
        return True
    if setting == state.is_running:
        return gain <= math.log1p(plan.leap)
    best = evidence.best([*_measured(plan, evidence), plan.start])
    if gain >= math.log1p(plan.min_gain) or best is None:
        return False
    interval = evidence.goal_interval(setting, best, confidence=_CONTENDER)
    return setting == best or interval is None or interval.low <= 0


@dataclass(frozen=True, slots=True)
class _Promise:
    setting: Setting
    gain: float
    """Expected, in logarithms of the goal's figure; without a best setting a chance instead."""
    has_best: bool


def _most_promising(plan: Plan, state: State, evidence: Evidence) -> _Promise | None:
    open_, _ = open_candidates(plan, state)
    if not open_:
        return None
    gains = expected_gains(plan, evidence, open_)
    chosen = max(open_, key=lambda setting: gains[setting])
    has_best = evidence.best([*_measured(plan, evidence), plan.start]) is not None
    return _Promise(chosen, gains[chosen], has_best)


def _unsettled(plan: Plan, state: State, evidence: Evidence) -> list[Setting]:
    """Settings that another round may tell from the best and that can be paid, the best first."""
    racing = [
        setting
        for setting in _measured(plan, evidence)
        if setting not in state.failed
        and standing(evidence, setting, plan.rules) is Standing.RACING
        and _is_affordable(plan, state, setting)
    ]
    # The one that runs, before all: its next round costs no start.
    return sorted(racing, key=lambda one: (one != state.is_running, evidence.goal_estimate(one)))


def _next_setting(plan: Plan, state: State, promise: _Promise | None) -> Measure | Stop:
    if promise is None:
        return Stop("every setting was measured or ruled out")
    gain = f"expected gain {100 * math.expm1(promise.gain):.0f} %"
    if promise.has_best and promise.gain < math.log1p(plan.min_gain):
        return Stop(f"no other setting promises {100 * plan.min_gain:g} % ({gain})")
    if not _is_affordable(plan, state, promise.setting):
        return Stop("another start of an engine would exceed the budget")
    return _step(promise.setting, 0, gain if promise.has_best else "likeliest to keep the bounds")


def _step(setting: Setting, number: int, why: str) -> Measure:
    return Measure(setting, number, why)


def _measured(plan: Plan, evidence: Evidence) -> list[Setting]:
    return [s for s in evidence.settings if s not in (plan.start, plan.reference)]


def _is_affordable(plan: Plan, state: State, setting: Setting) -> bool:
    n_rounds = 1
    cost = 0.0
    if state.is_running != setting:
        n_rounds = plan.rules.min_rounds
        cost = state.costs.start
    return state.spent_seconds + cost + n_rounds * state.costs.round <= plan.budget_seconds


def open_candidates(plan: Plan, state: State) -> tuple[list[Setting], list[LeftOut]]:
    """(those that a start may still be spent on, those that what was measured rules out).

    A limit on sequences that no round came near does not act. That holds at the offered load only,
    so it rules nothing out where the capacity is looked at.
    """
    measured = {one.setting for one in state.rounds}
    peaks = [one.values.get("peak_in_flight", math.nan) for one in state.rounds]
    metrics = (plan.goals.metric, *(bound.metric for bound in plan.goals.bounds))
    is_known = CAPACITY not in metrics and peaks and not any(math.isnan(peak) for peak in peaks)
    n_most = int(max(peaks)) + 1 if is_known else plan.load.n_requests
    load = dataclasses.replace(plan.load, n_requests=min(plan.load.n_requests, n_most))
    by_effect = {effect_of(setting, load): setting for setting in measured}
    open_: list[Setting] = []
    ruled_out: list[LeftOut] = []
    for setting in plan.candidates:
        if setting in measured or setting in state.failed:
            continue
        twin = by_effect.setdefault(effect_of(setting, load), setting)
        if twin is setting:
            open_.append(setting)
        else:
            reason = f"acts as `{twin.name}`: never more than {n_most - 1} requests at a time"
            ruled_out.append(LeftOut(setting, reason))
    return open_, ruled_out


def expected_gains(
    plan: Plan, evidence: Evidence, wanted: Sequence[Setting]
) -> dict[Setting, float]:
    """By setting, the expected gain over the best so far times the chance to keep all bounds.

    In logarithms of the goal's figure. While no setting keeps the bounds, the chance alone.
    """
    known = [
        setting
        for setting in evidence.settings
        if setting != plan.reference and not math.isnan(evidence.goal_estimate(setting))
    ]
    best = evidence.best(known)
    chances = np.ones(len(wanted))
    for index in range(len(plan.goals.bounds)):
        guesses = guess_bound(plan, evidence, wanted, index=index)
        chances *= [one.chance_below(_NO_LIMIT) for one in guesses]
    if best is None:
        return dict(zip(wanted, chances.tolist(), strict=True))
    guesses = guess_goal(plan, evidence, wanted)
    gains = [one.expected_improvement(evidence.goal_estimate(best)) for one in guesses]
    return dict(zip(wanted, (np.array(gains) * chances).tolist(), strict=True))


def guess_goal(plan: Plan, evidence: Evidence, wanted: Sequence[Setting]) -> list[Guess]:
    """The goal's logarithm of the ratio to the start, of settings that were not measured."""
    means = {
        setting: evidence.goal_estimate(setting)
        for setting in evidence.settings
        if setting != plan.reference
    }
    spread = evidence.goal_spread()
    deviation = spread.deviation if spread else _GOAL_DEVIATION
    return _guess(plan, evidence, means, deviation, wanted, metric=plan.goals.metric)


def guess_bound(
    plan: Plan, evidence: Evidence, wanted: Sequence[Setting], *, index: int
) -> list[Guess]:
    """How far over a bound settings will be that were not measured."""
    excess = {
        setting: statistics.fmean(values)
        for setting in evidence.settings
        if setting != plan.reference and (values := evidence.excesses(setting, index))
    }
    first = excess.get(plan.start, 0.0)
    means = {setting: mean - first for setting, mean in excess.items()}
    spread = evidence.bound_spread(index)
    deviation = spread.deviation if spread else _BOUND_DEVIATION
    metric = plan.goals.bounds[index].metric
    guesses = _guess(plan, evidence, means, deviation, wanted, metric=metric)
    return [dataclasses.replace(one, mean=one.mean + first) for one in guesses]


def _guess(
    plan: Plan,
    evidence: Evidence,
    means: Mapping[Setting, float],
    deviation: float,
    wanted: Sequence[Setting],
    *,
    metric: str,
) -> list[Guess]:
    start = _place(plan, plan.start)
    # The start is compared with itself, without error.
    known = [Known(start, 0.0, 0.0)] + [
        Known(_place(plan, setting), mean, deviation**2 / evidence.n_rounds(setting))
        for setting, mean in means.items()
        if setting != plan.start and not math.isnan(mean)
    ]
    gaps = [_median(evidence.values(plan.start, name)) for name in ("gap_p50", "gap_p99")]
    overhead = overhead_tokens(gaps[0], gaps[1], start.piece)
    places = [_place(plan, setting) for setting in wanted]
    return guess(known, places, metric=metric, overhead=overhead)


def _median(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.median(defined) if defined else math.nan


def _place(plan: Plan, setting: Setting) -> Place:
    return place_of(setting, plan.load, assumed_budget=plan.assumed_budget)
