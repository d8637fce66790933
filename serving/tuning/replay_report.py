"""A replay's outcome as rows and sentences for a terminal, and as one JSON document. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from adapters.parity.verdict import VerdictKind
from serving.tuning.goals import METRICS
from serving.tuning.measure import LATE_SHARE, LoadResult, percentile
from serving.tuning.replay import CANDIDATE, Replay, Replayed, runs_of
from serving.tuning.replay_order import Order
from serving.tuning.replay_verdict import Finding, Judged
from serving.tuning.slo import LATENCIES

_FEW = 100
COLUMNS = ("goal", "candidate", "interval", "verdict")
FIGURE_COLUMNS = ("class", "figure", "unit", "current", "candidate", "ratio")


def goal_rows(judged: Judged) -> list[tuple[str, ...]]:
    """One row a goal."""
    return [
        (
            one.slo.text,
            f"{number_text(one.figure)} {one.unit}",
            f"{number_text(one.low)} to {number_text(one.high)}",
            str(one.verdict),
        )
        for one in judged.findings
    ]


def figure_rows(found: Replayed) -> list[tuple[str, ...]]:
    """The median over runs of each figure, of both, whether or not it has a goal."""
    runs = runs_of(found)
    rows: list[tuple[str, ...]] = []
    for kind in (*found.replay.shape.kinds, None):
        metrics = LATENCIES if kind is not None else ("throughput",)
        for metric in metrics:
            mine = _median([values[metric] for values in runs.candidate[kind]])
            theirs = math.nan
            if runs.current is not None:
                theirs = _median([values[metric] for values in runs.current[kind]])
            shown = (number_text(theirs), number_text(mine), number_text(mine / theirs))
            rows.append((kind or "all", metric, METRICS[metric], *shown))
    return rows


def plan_sentence(replay: Replay) -> str:
    """What is about to be done, and how long it takes at least."""
    n_sides, n_looks = len(replay.sides), replay.looks
    window = replay.shape.seconds
    runs = " to ".join(str(n) for n in n_looks)
    minutes = " to ".join(f"{n_sides * n * window / 60:.0f}" for n in n_looks)
    return (
        f"{runs} runs of {window:.0f} s for each of {n_sides} engine{'s' * (n_sides > 1)}: "
        f"{minutes} min, and their starts and warm-ups."
    )


def sentences(found: Replayed) -> list[str]:
    """What a person wants to know, the verdict first."""
    judged, replay = judged_of(found), found.replay
    n_runs, n = len(found.results[CANDIDATE]), len(judged.findings)
    n_kept = sum(one.verdict is VerdictKind.PASS for one in judged.findings)
    lines = [f"{judged.verdict}: {n_kept} of {n} goals kept beyond chance, after {n_runs} runs."]
    lines += judged.reasons
    if replay.current is not None:
        order = replay.order
        lines.append(f"Runs {order.order}: {order.reason}.")
        if order.order is Order.IN_TURN:
            lines.append("What changed on the machine meanwhile counts as a difference of the two.")
    if few := _few(replay, judged):
        lines.append(few)
    late = [line for name, results in found.results.items() if (line := _late(name, results))]
    return lines + late


def _few(replay: Replay, judged: Judged) -> str:
    """A word of caution for goals about the p99 of a handful of requests."""
    arrivals = replay.shape.arrivals
    counts = {
        one.slo.kind or "all": sum(a.kind == (one.slo.kind or a.kind) for a in arrivals)
        for one in judged.findings
        if one.slo.metric in ("ttft_p99", "e2e_p99")
    }
    few = [f"{kind}: {n} a run" for kind, n in counts.items() if n < _FEW]
    if not few:
        return ""
    return f"Of fewer than {_FEW} requests, a p99 is nearly the slowest one ({', '.join(few)})."


def _late(name: str, results: Sequence[LoadResult]) -> str:
    lag = _median([percentile(result.lag(), 99) for result in results])
    ttft = _median([percentile(result.ttft(), 99) for result in results])
    if not lag > LATE_SHARE * ttft:
        return ""
    return (
        f"{name}: requests were sent up to {1000 * lag:.0f} ms late, which is part of the TTFT: "
        "this machine is busy with more than the replay."
    )


def result_json(found: Replayed, *, has_samples: bool = False) -> dict[str, Any]:
    """Everything; undefined numbers are null. With `has_samples` also each request of each run."""
    judged, replay, runs = judged_of(found), found.replay, runs_of(found)
    document: dict[str, Any] = {
        "verdict": str(judged.verdict),
        "reasons": list(judged.reasons),
        "window": replay.shape.name,
        "n_requests_per_run": len(replay.shape.arrivals),
        "n_runs": len(found.results[CANDIDATE]),
        "seed": replay.seed,
        "order": {"is": str(replay.order.order), "because": replay.order.reason},
        "n_failed": judged.n_failed,
        "n_requests": judged.n_requests,
        "n_failed_current": runs.n_failed_current,
        "goals": [_finding_json(one) for one in judged.findings],
        "figures": {
            name: {
                kind or "all": [
                    {key: _plain(value) for key, value in values.items()} for values in figures
                ]
                for kind, figures in by_kind.items()
            }
            for name, by_kind in (("candidate", runs.candidate), ("current", runs.current or {}))
        },
    }
    if has_samples:
        document["samples"] = {
            name: [result.to_json() for result in results]
            for name, results in found.results.items()
        }
    return document


def _finding_json(one: Finding) -> dict[str, Any]:
    return {
        "goal": one.slo.text,
        "metric": one.slo.metric,
        "class": one.slo.kind or "all",
        "is_relative": one.slo.is_relative,
        "limit": one.slo.limit,
        "unit": one.unit,
        "figure": _plain(one.figure),
        "interval": [_plain(one.low), _plain(one.high)],
        "verdict": str(one.verdict),
        "reason": one.reason,
    }


def judged_of(found: Replayed) -> Judged:
    """The verdict of a replay that was run.

    Raises:
        ValueError: it was not.
    """
    if found.judged is None:
        raise ValueError("a replay without a run has no verdict")
    return found.judged


def number_text(value: float) -> str:
    """Three significant digits, or what says that there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _median(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.median(defined) if defined else math.nan


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
