"""Which round to measure next, and when to stop: a pure function of what was measured so far.

Starts of engines are what a search pays for, so few settings are started, each chosen for what it
is expected to gain (Bayesian search, `surrogate`), and on a started engine rounds are added only
until the setting is told apart from the best so far (a race, `race`). docs/adr/0014 says why.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from serving.tuning.goals import CAPACITY, THROUGHPUT, Goals
from serving.tuning.race import Evidence, Round, Rules, Standing, standing
from serving.tuning.space import LeftOut, Load, Setting, effect_of
from serving.tuning.surrogate import BOUND_PRIOR, GOAL_PRIOR, Floats, Guess, Prior, features, guess

_NO_LIMIT = 0.0
"""An excess of at most this keeps a bound."""


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


def next_step(plan: Plan, state: State) -> Measure | Stop:
    """The same for the same plan and state, so a search that was killed goes on where it was."""
    evidence = Evidence(plan.start, plan.goals, state.rounds)
    if plan.start in state.failed:
        return Stop(f"the start's engine failed: {state.failed[plan.start]}")
    n_rounds = evidence.n_rounds(plan.start)
    if n_rounds < plan.rules.start_rounds:
        return _step(plan.start, n_rounds, "the start, which all others are compared with")
    n_rounds = evidence.n_rounds(plan.reference) if plan.reference else 0
    if (
        plan.reference
        and plan.reference not in state.failed
        and n_rounds < plan.rules.min_rounds
        and _is_affordable(plan, state, plan.reference)
    ):
        return _step(plan.reference, n_rounds, "the reference, without chunked prefill")
    for setting in _measured(plan, evidence):
        if (
            setting not in state.failed
            and standing(evidence, setting, plan.rules) is Standing.RACING
            and _is_affordable(plan, state, setting)
        ):
            return _step(setting, evidence.n_rounds(setting), "not told from the best yet")
    return _next_setting(plan, state, evidence)


def _next_setting(plan: Plan, state: State, evidence: Evidence) -> Measure | Stop:
    open_, _ = open_candidates(plan, state)
    if not open_:
        return Stop("every setting was measured or ruled out")
    if not _is_affordable(plan, state, open_[0]):
        return Stop("another start of an engine would exceed the budget")
    if not _measured(plan, evidence):
        return _step(_middle(plan, open_), 0, "the middle of the axes, for a first direction")
    gains = expected_gains(plan, evidence, open_)
    chosen = max(open_, key=lambda setting: gains[setting])
    has_best = evidence.best([*_measured(plan, evidence), plan.start]) is not None
    if has_best and gains[chosen] < math.log1p(plan.min_gain):
        return Stop(
            f"no other setting is expected to gain {100 * plan.min_gain:g} % "
            f"(the most promising: {100 * math.expm1(gains[chosen]):.1f} %)"
        )
    why = (
        f"expected gain {100 * math.expm1(gains[chosen]):.0f} %" if has_best else "may keep bounds"
    )
    return _step(chosen, 0, why)


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


def _middle(plan: Plan, open_: Sequence[Setting]) -> Setting:
    """Half-way along the two axes of tokens, the other axes as at the start."""
    places = [_features(plan, setting) for setting in open_]
    wanted = _features(plan, plan.start)
    wanted[:2] = np.median(np.array(places)[:, :2], axis=0)
    distances = [float(np.abs(place - wanted).sum()) for place in places]
    return open_[distances.index(min(distances))]


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
    for index, bound in enumerate(plan.goals.bounds):
        prior = BOUND_PRIOR if bound.metric in (THROUGHPUT, CAPACITY) else GOAL_PRIOR
        guesses = _bound_guesses(plan, evidence, known, wanted, index=index, prior=prior)
        chances *= [one.chance_below(_NO_LIMIT) for one in guesses]
    if best is None:
        return dict(zip(wanted, chances.tolist(), strict=True))
    means = [evidence.goal_estimate(setting) for setting in known]
    goal_spread = evidence.goal_spread()
    deviation = goal_spread.deviation if goal_spread else 0.1
    variances = [_variance(plan, evidence, setting, deviation) for setting in known]
    guesses = _guess(plan, known, means, variances, wanted, prior=GOAL_PRIOR)
    gains = [one.expected_improvement(evidence.goal_estimate(best)) for one in guesses]
    return dict(zip(wanted, (np.array(gains) * chances).tolist(), strict=True))


def _bound_guesses(
    plan: Plan,
    evidence: Evidence,
    known: Sequence[Setting],
    wanted: Sequence[Setting],
    *,
    index: int,
    prior: Prior,
) -> list[Guess]:
    excess = {setting: evidence.excesses(setting, index) for setting in known}
    told = [setting for setting in known if excess[setting]]
    first = float(np.mean(excess[plan.start])) if excess.get(plan.start) else 0.0
    means = [float(np.mean(excess[setting])) - first for setting in told]
    spread = evidence.bound_spread(index)
    deviation = spread.deviation if spread else 0.02
    variances = [_variance(plan, evidence, setting, deviation) for setting in told]
    guesses = _guess(plan, told, means, variances, wanted, prior=prior)
    return [dataclasses.replace(one, mean=one.mean + first) for one in guesses]


def _variance(plan: Plan, evidence: Evidence, setting: Setting, deviation: float) -> float:
    # The start is compared with itself, without error.
    return 0.0 if setting == plan.start else deviation**2 / evidence.n_rounds(setting)


def _guess(
    plan: Plan,
    known: Sequence[Setting],
    means: Sequence[float],
    variances: Sequence[float],
    wanted: Sequence[Setting],
    *,
    prior: Prior,
) -> list[Guess]:
    places: list[Floats] = [_features(plan, setting) for setting in known]
    return guess(
        places, means, variances, [_features(plan, setting) for setting in wanted], prior=prior
    )


def _features(plan: Plan, setting: Setting) -> Floats:
    return features(setting, plan.load, assumed_budget=plan.assumed_budget)
