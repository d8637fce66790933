"""A search's result as rows and sentences for a terminal, and as one JSON document. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from serving.tuning.conclusion import Conclusion, Found, Row
from serving.tuning.goals import CAPACITY, METRICS, THROUGHPUT, is_higher_better
from serving.tuning.measure import LATE_SHARE
from serving.tuning.profile_file import Provenance
from serving.tuning.search import Costs, Plan, State
from serving.tuning.space import LeftOut, Setting

_UNDEFINED = "-"


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """What a search is expected to cost, before it begins or goes on; seconds of engine time."""

    n_expected: int
    """Settings that are started, as such searches went in simulation."""
    n_most: int
    expected_seconds: float
    worst_seconds: float
    """Each of them with all its rounds, cut by the budget."""


_EXPECTED_CANDIDATES = 5
"""Median of the simulated searches in tests/property/test_search_properties.py."""


def forecast(plan: Plan, costs: Costs) -> Forecast:
    """Counted from nothing; a record that exists makes it less."""
    rules = plan.rules
    fixed = costs.start + rules.start_rounds * costs.round
    if plan.reference is not None:
        fixed += costs.start + rules.min_rounds * costs.round
    n_fixed = 1 if plan.reference is None else 2
    n_expected = min(len(plan.candidates), _EXPECTED_CANDIDATES)
    each = costs.start + (rules.min_rounds + rules.max_rounds) / 2 * costs.round
    most = costs.start + rules.max_rounds * costs.round
    return Forecast(
        n_expected + n_fixed,
        len(plan.candidates) + n_fixed,
        max(fixed, min(plan.budget_seconds, fixed + n_expected * each)),
        max(fixed, min(plan.budget_seconds, fixed + len(plan.candidates) * most)),
    )


def columns(plan: Plan) -> tuple[str, ...]:
    """Of the table of settings."""
    return ("setting", "rounds", *shown_metrics(plan), "goal / start", "verdict", "front")


def shown_metrics(plan: Plan) -> tuple[str, ...]:
    """The goal first, then what the bounds are about, then both throughputs."""
    wanted = (
        plan.goals.metric, *(bound.metric for bound in plan.goals.bounds), THROUGHPUT, CAPACITY
    )  # fmt: skip
    return tuple(dict.fromkeys(wanted))


def table_rows(plan: Plan, conclusion: Conclusion) -> list[tuple[str, ...]]:
    """The start, the reference, then candidates from the best goal to the worst."""
    sign = -1 if is_higher_better(plan.goals.metric) else 1

    def order(row: Row) -> tuple[int, float]:
        found = row.figure(plan.goals.metric)
        value = sign * found.mean if found and found.rounds else math.inf
        return (("start", "reference", "candidate").index(row.role), value)

    return [_cells(plan, row, conclusion.chosen) for row in sorted(conclusion.rows, key=order)]


def _cells(plan: Plan, row: Row, chosen: Setting) -> tuple[str, ...]:
    ratio = _UNDEFINED
    if row.ratio_interval is not None:
        low, high = row.ratio_interval
        ratio = f"{row.ratio:.3g} ({low:.3g} to {high:.3g})"
    verdict = row.verdict
    if row.setting == chosen:
        verdict = "chosen" if row.role == "candidate" else f"{verdict}, chosen"
    return (
        row.setting.name,
        str(max((len(found.rounds) for found in row.figures), default=0)),
        *(figure_text(row.figure(metric)) for metric in shown_metrics(plan)),
        ratio,
        verdict,
        "*" if row.is_on_front else "",
    )


def figure_text(found: Found | None) -> str:
    """`120 (110 to 131)` without a unit; a dash where nothing was measured."""
    if found is None or not found.rounds:
        return _UNDEFINED
    if found.interval is None:
        return f"{found.mean:.4g}"
    return f"{found.mean:.4g} ({found.interval.low:.4g} to {found.interval.high:.4g})"


def sentences(plan: Plan, state: State, conclusion: Conclusion, *, stop: str) -> list[str]:
    """What a person wants to know, the outcome first."""
    if conclusion.is_better:
        lines = [f"Chosen: {conclusion.chosen.name}; {conclusion.reason}."]
    else:
        lines = [f"The start stays: {conclusion.reason}."]
    lines += [f"Not to be told from it: {setting.name}." for setting in conclusion.near]
    lines += [
        f"Not answered: {row.n_unanswered} requests of {row.setting.name}, which its latencies "
        "leave out."
        for row in conclusion.rows
        if row.n_unanswered
    ]
    lines += [f"Failed: {setting.name}: {reason}" for setting, reason in state.failed.items()]
    lines += _late(state)
    n_settings = len(conclusion.rows) + len(state.failed)
    lines.append(
        f"{n_settings} settings, {len(state.rounds)} rounds, {state.spent_seconds / 60:.1f} "
        f"engine-minutes; it ended because {stop}."
    )
    return lines


def _late(state: State) -> list[str]:
    late = [
        one
        for one in state.rounds
        if one.values.get("lag_p99", 0) > LATE_SHARE * one.values.get("ttft_p99", math.nan)
    ]
    if not late:
        return []
    return [
        f"In {len(late)} of {len(state.rounds)} rounds requests were sent late, which is part of "
        "their TTFT: this machine is busy with more than the engine."
    ]


def result_json(
    plan: Plan,
    state: State,
    conclusion: Conclusion,
    provenance: Provenance,
    *,
    stop: str,
    left_out: Sequence[LeftOut] = (),
) -> dict[str, Any]:
    """Everything, rounds included; undefined numbers are null."""
    return {
        "chosen": conclusion.chosen.to_json(),
        "is_better": conclusion.is_better,
        "reason": conclusion.reason,
        "stop": stop,
        "goal": plan.goals.text,
        "start": plan.start.to_json(),
        "engine_seconds": round(state.spent_seconds, 1),
        "n_rounds": len(state.rounds),
        "settings": [_row_json(row) for row in conclusion.rows],
        "near": [setting.to_json() for setting in conclusion.near],
        "failed": [{"setting": s.to_json(), "reason": why} for s, why in state.failed.items()],
        "left_out": [{"setting": one.setting.to_json(), "reason": one.reason} for one in left_out],
        "provenance": dataclasses.asdict(provenance),
    }


def plan_json(
    plan: Plan, left_out: Sequence[LeftOut], told: Forecast, state: State
) -> dict[str, Any]:
    """What `--dry-run --json` prints."""
    return {
        "goal": plan.goals.text,
        "start": plan.start.to_json(),
        "reference": plan.reference.to_json() if plan.reference else None,
        "candidates": [setting.to_json() for setting in plan.candidates],
        "left_out": [{"setting": one.setting.to_json(), "reason": one.reason} for one in left_out],
        "expected_seconds": round(told.expected_seconds),
        "worst_seconds": round(told.worst_seconds),
        "budget_seconds": plan.budget_seconds,
        "rounds_done": len(state.rounds),
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "setting": row.setting.to_json(),
        "name": row.setting.name,
        "role": row.role,
        "verdict": row.verdict,
        "keeps_bounds": row.keeps_bounds,
        "is_on_front": row.is_on_front,
        "n_unanswered": row.n_unanswered,
        "ratio": _number(row.ratio),
        "ratio_interval": list(row.ratio_interval) if row.ratio_interval else None,
        "figures": {
            found.metric: {
                "unit": METRICS[found.metric],
                "mean": _number(found.mean),
                "interval": list(found.interval) if found.interval else None,
                "rounds": list(found.rounds),
            }
            for found in row.figures
            if found.rounds
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
