"""From what was timed to the figures of the tenancy scenario: pure.

`rows` are blocks of load, each of one variant with so many connections in one run; `timed` are the
timers' microseconds of one server, by part, one mapping per run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.asgi_timing import BESIDE, HOOKED
from bench.figure_table import found
from bench.result import Figure, Goal

ALONE, OURS, BEFORE = "vLLM alone", "ours", "ours before"
DIRECT, MIDDLEWARE, ENVOY, PROXY = "null upstream", "our middleware", "Envoy", "LiteLLM"
GOAL_US = 50.0
ONE = 1
"""Connections of a block whose latency counts; those of more count for their rate."""
_QUANTILES = (1, *range(10, 100, 10), 99, 99.9)


def in_process(lines: Sequence[str], blocks: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By part, in microseconds, the timers' rows that fall into these blocks; `together` sums."""
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if any(b["from"] <= row["at"] <= b["to"] for b in blocks)]
    parts = {name: [row[name] / 1000 for row in rows] for name in ("middleware", *HOOKED)}
    parts[BESIDE] = [row[BESIDE] / 1000 for row in rows]
    parts["together"] = [sum(row[name] for name in ("middleware", *HOOKED)) / 1000 for row in rows]
    return parts


def added_figures(timed: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> list[Figure]:
    """Of each of our servers, what it spends more than vLLM alone; `timed` has one entry per run.

    A difference of percentiles, not a percentile of differences: requests have no partners.
    """
    figures = []
    for name in (side for side in (OURS, BEFORE) if side in timed):
        runs = list(zip(timed[name], timed[ALONE], strict=True))
        for part, parts in (
            ("adds in process", ("together",)),
            ("of that, middleware", ("middleware",)),
            ("of that, hooks", HOOKED),
        ):
            for q in (50, 99):
                values = tuple(
                    sum(_percentile(us[key], q) - _percentile(alone[key], q) for key in parts)
                    for us, alone in runs
                )
                figures.append(Figure(f"{part} p{q}", "us", values, "lower", name))
        # Most rows have none of it, and some that of many requests.
        beside = tuple(sum(us[BESIDE]) / len(us[BESIDE]) for us, _ in runs)
        if any(beside):
            figures.append(Figure("beside requests, mean", "us", beside, "lower", name))
    return figures


def client_figures(rows: Sequence[Mapping[str, Any]], *, reference: str) -> list[Figure]:
    """What a client sees of each variant, and how it compares with `reference` in the same run."""
    runs = range(max(row["run"] for row in rows) + 1)
    names = list(dict.fromkeys(row["name"] for row in rows))
    figures = []
    for name in names:
        for key, shown in (("p50_us", "p50"), ("p99_us", "p99")):
            values = tuple(_of(rows, run, name, key) for run in runs)
            figures.append(Figure(f"request {shown}", "us", values, "lower", name))
            if name != reference:
                added = tuple(_added(rows, run, name, reference, key) for run in runs)
                figures.append(Figure(f"adds {shown}", "us", added, "lower", name))
        rates = tuple(_of(rows, run, name, "per_second") for run in runs)
        figures.append(Figure("at saturation", "requests/s", rates, "higher", name))
        if name != reference:
            kept = tuple(
                _of(rows, run, name, "per_second") / _of(rows, run, reference, "per_second")
                for run in runs
            )
            figures.append(Figure(f"saturation / {reference}", "x", kept, "higher", name))
    return figures


def ratio_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The other gateways over ours, run by run: what they add, and what comes through."""
    runs = range(max(row["run"] for row in rows) + 1)
    figures = []
    for name in (ENVOY, PROXY):
        for key, shown in (("p50_us", "p50"), ("p99_us", "p99")):
            values = tuple(
                _ratio(
                    _added(rows, run, name, DIRECT, key), _added(rows, run, MIDDLEWARE, DIRECT, key)
                )
                for run in runs
            )
            figures.append(Figure(f"adds {shown}, {name} / ours", "x", values, None, name))
        values = tuple(
            _of(rows, run, name, "per_second") / _of(rows, run, MIDDLEWARE, "per_second")
            for run in runs
        )
        figures.append(Figure(f"saturation, {name} / ours", "x", values, None, name))
    return figures


def goals_of(figures: Sequence[Figure]) -> list[Goal]:
    """The one line that was drawn before measuring."""
    by_key = {(figure.group, figure.name): figure for figure in figures}
    added = by_key[OURS, "adds in process p50"]
    return [
        Goal(
            "tenancy in process, p50", f"at most {GOAL_US:.0f} us",
            f"{found(added.values, digits=1)} us", added.median <= GOAL_US,
        )
    ]  # fmt: skip


def _of(rows: Sequence[Mapping[str, Any]], run: int, name: str, key: str) -> float:
    values = [
        row[key]
        for row in rows
        if (row["run"], row["name"]) == (run, name)
        and (row["connections"] > ONE) == (key == "per_second")
    ]
    return _percentile(values, 50)


def _added(
    rows: Sequence[Mapping[str, Any]], run: int, name: str, reference: str, key: str
) -> float:
    return _of(rows, run, name, key) - _of(rows, run, reference, key)


def _ratio(value: float, ours: float) -> float:
    """NaN where the noise of a run swallowed what we add."""
    return value / ours if ours > 0 else float("nan")


def _percentile(values: Sequence[float], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else float("nan")


def summary(timed: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> dict[str, Any]:
    """Every tenth percentile of every part, run by run: the rows themselves would be megabytes."""
    return {
        name: [
            {
                "n": len(run["together"]),
                **{
                    part: [round(_percentile(values, q), 2) for q in _QUANTILES]
                    for part, values in run.items()
                },
            }
            for run in runs
        ]
        for name, runs in timed.items()
    }
