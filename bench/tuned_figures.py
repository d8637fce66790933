"""What an exhaustive grid says of the profile that a search chose: ratios, distance, cost. Pure.

Nothing of the search's own rounds is used: the best of several looks better than it is in the
rounds that chose it, and the grid measured the same setting again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.result import Figure, Goal
from serving.tuning.goals import CAPACITY, THROUGHPUT, Goals
from serving.tuning.race import Evidence, Round
from serving.tuning.space import Setting

WANTED_RATIO, WANTED_LOSS, WANTED_DISTANCE, WANTED_SHARE = 4.0, 0.11, 0.05, 1 / 3
COMPARED = "default against tuned"
SEARCH = "search against grid"
_SHOWN = (
    ("gap_p99", "ms", "lower"), ("ttft_p99", "ms", "lower"), ("e2e_p50", "ms", "lower"),
    (THROUGHPUT, "tokens/s", "higher"), (CAPACITY, "tokens/s", "higher"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """All figures and goals of one comparison."""

    figures: tuple[Figure, ...]
    goals: tuple[Goal, ...]
    best: Setting | None
    """The grid's; None: no setting of it keeps the bounds."""


def judge(
    start: Setting,
    goals: Goals,
    grid: Sequence[Round],
    chosen: Setting,
    *,
    grid_seconds: float,
    tune_seconds: float,
    reference: Setting | None = None,
) -> Judged:
    """Hold the chosen setting against the default and against the grid's best, in grid rounds."""
    evidence = Evidence(start, goals, grid)
    able = [setting for setting in evidence.settings if setting != reference]
    best = evidence.best(able)
    gap = _ratios(evidence, chosen, start, goals.metric)
    losses = {name: _losses(evidence, chosen, start, name) for name in (THROUGHPUT, CAPACITY)}
    to_best = _ratios(evidence, best, chosen, goals.metric) if best else [math.nan]
    # Round by round; the goal is about the means, which rounds of one seed each scatter around.
    distance = _geometric(to_best) - 1
    share = tune_seconds / grid_seconds if grid_seconds else math.nan
    figures = [
        *_rows(evidence),
        Figure("short p99 gap, default / tuned", "x", tuple(gap), "higher", COMPARED),
        *(
            Figure(f"{name} lost", "%", tuple(100 * v for v in values), "lower", COMPARED)
            for name, values in losses.items()
        ),
        Figure(
            "goal above the grid's best", "%", tuple(100 * (v - 1) for v in to_best), "lower",
            SEARCH,
        ),
        Figure("engine-minutes of the grid", "min", (grid_seconds / 60,), None, SEARCH),
        Figure("engine-minutes of the search", "min", (tune_seconds / 60,), "lower", SEARCH),
    ]  # fmt: skip
    worst = max(_mean(values) for values in losses.values())
    found = [
        Goal(
            "short p99 gap of the default over the tuned profile's",
            f"at least {WANTED_RATIO:g} x", f"{_geometric(gap):.2f} x ({_range(gap)})",
            _geometric(gap) >= WANTED_RATIO,
        ),
        Goal(
            "throughput given up, the worse of offered load and all at once",
            f"at most {100 * WANTED_LOSS:g} %",
            ", ".join(f"{n} {100 * _mean(v):.1f} %" for n, v in losses.items()),
            worst <= WANTED_LOSS,
        ),
        Goal(
            "tuned profile's gap above the grid's best that keeps the bounds",
            f"at most {100 * WANTED_DISTANCE:g} %",
            f"{100 * distance:.1f} % ({'the same setting' if best == chosen else _name(best)})",
            distance <= WANTED_DISTANCE,
        ),
        Goal(
            "engine-minutes of the search over the grid's", "at most a third",
            f"{share:.3f} ({tune_seconds / 60:.1f} of {grid_seconds / 60:.1f} minutes)",
            share <= WANTED_SHARE,
        ),
    ]  # fmt: skip
    return Judged(tuple(figures), tuple(found), best)


def _rows(evidence: Evidence) -> list[Figure]:
    rows = []
    for setting in evidence.settings:
        for name, unit, better in _SHOWN:
            values = tuple(evidence.values(setting, name))
            rows.append(Figure(name, unit, values, better, setting.name))  # type: ignore[arg-type]
    return rows


def _name(setting: Setting | None) -> str:
    return "no setting keeps the bounds" if setting is None else f"its best: {setting.name}"


def _ratios(evidence: Evidence, setting: Setting, other: Setting, metric: str) -> list[float]:
    """The other's figure over the setting's, per round."""
    found = [math.exp(-value) for value in evidence.differences(setting, metric, other)]
    return found or [math.nan]


def _losses(evidence: Evidence, setting: Setting, start: Setting, metric: str) -> list[float]:
    """Share of a throughput that is lost, per round."""
    return [1 - 1 / ratio for ratio in _ratios(evidence, start, setting, metric)]


def _geometric(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
