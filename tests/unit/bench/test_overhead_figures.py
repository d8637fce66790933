"""From blocks of load and timers' rows to figures, on numbers whose answer is known."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bench.asgi_timing import BESIDE, HOOKED
from bench.http_load import Loaded, Request
from bench.overhead_figures import (
    ALONE,
    BEFORE,
    DIRECT,
    ENVOY,
    MIDDLEWARE,
    OURS,
    PROXY,
    added_figures,
    client_figures,
    goals_of,
    in_process,
    ratio_figures,
    summary,
)
from bench.result import Figure
from bench.scenarios.tenancy_overhead import measure_blocks

P50 = {DIRECT: 50.0, MIDDLEWARE: 80.0, ENVOY: 170.0, PROXY: 15050.0}
RATE = {DIRECT: 9000.0, MIDDLEWARE: 6000.0, ENVOY: 3000.0, PROXY: 60.0}


def _rows(*, runs: int = 2) -> list[dict[str, Any]]:
    """Each of a run's three latencies is 0, 1 and 2 us above its name's; later runs are 10 up."""
    rows = []
    for run in range(runs):
        for name, p50 in P50.items():
            for block in range(3):
                told = {"p50_us": p50 + 10 * run + block, "p99_us": 2 * p50, "per_second": 1.0}
                rows.append({"run": run, "name": name, "connections": 1, **told})
            told = {"p50_us": 1e6, "p99_us": 1e6, "per_second": RATE[name]}
            rows.append({"run": run, "name": name, "connections": 16, **told})
    return rows


def _named(figures: list[Figure]) -> dict[tuple[str, str], Figure]:
    return {(figure.group, figure.name): figure for figure in figures}


def _parts(middleware: float, hook: float) -> dict[str, list[float]]:
    hooks = {name: [hook] * 3 for name in HOOKED}
    together = [middleware + 5 * hook] * 3
    return {"middleware": [middleware] * 3, **hooks, "together": together, BESIDE: [0.0, 0.0, hook]}


def test_latency_is_of_single_connections_and_rate_of_many() -> None:
    figures = _named(client_figures(_rows(), reference=DIRECT))

    assert figures[MIDDLEWARE, "request p50"].values == (81.0, 91.0)
    assert figures[MIDDLEWARE, "adds p50"].values == (30.0, 30.0)
    assert figures[MIDDLEWARE, "at saturation"].values == (6000.0, 6000.0)
    assert figures[PROXY, f"saturation / {DIRECT}"].values == pytest.approx((1 / 150, 1 / 150))
    assert (DIRECT, "adds p50") not in figures


def test_other_gateways_are_compared_with_ours_run_by_run() -> None:
    figures = _named(ratio_figures(_rows()))

    assert figures[ENVOY, "adds p50, Envoy / ours"].values == (4.0, 4.0)
    assert figures[PROXY, "adds p50, LiteLLM / ours"].values == (500.0, 500.0)
    assert figures[PROXY, "saturation, LiteLLM / ours"].values == (0.01, 0.01)


def test_a_run_whose_noise_swallows_what_we_add_has_no_ratio() -> None:
    rows = _rows(runs=1)
    for row in rows:
        if row["name"] == MIDDLEWARE:
            row["p50_us"] = 10.0

    figure = _named(ratio_figures(rows))[ENVOY, "adds p50, Envoy / ours"]

    assert math.isnan(figure.values[0])


def test_what_vllm_spends_alone_in_the_same_functions_is_not_ours() -> None:
    timed = {ALONE: [_parts(1.0, 2.0)], OURS: [_parts(21.0, 5.0)], BEFORE: [_parts(61.0, 5.0)]}

    figures = _named(added_figures(timed))
    (goal,) = goals_of(list(figures.values()))

    assert figures[OURS, "adds in process p50"].values == (35.0,)
    assert figures[OURS, "of that, middleware p50"].values == (20.0,)
    assert figures[OURS, "of that, hooks p50"].values == (15.0,)
    assert figures[BEFORE, "adds in process p50"].values == (75.0,)
    assert figures[OURS, "beside requests, mean"].values == pytest.approx((5 / 3,))
    assert goal.is_met
    assert not goals_of([Figure("adds in process p50", "us", (50.1,), group=OURS)])[0].is_met


def test_only_rows_of_the_blocks_count_and_a_request_is_the_sum_of_its_parts() -> None:
    row = {"middleware": 20_000, **dict.fromkeys(HOOKED, 1000), BESIDE: 7000}
    lines = [json.dumps({"at": at, **row}) for at in (1.0, 2.0, 3.0)]

    parts = in_process(lines, [{"from": 0.5, "to": 1.0}, {"from": 2.5, "to": 3.5}])

    assert parts["together"] == [25.0, 25.0]
    assert parts["middleware"] == [20.0, 20.0]
    assert parts[BESIDE] == [7.0, 7.0]
    assert summary({OURS: [parts]})[OURS][0]["n"] == 2


def test_no_variant_is_first_in_every_block_and_saturation_comes_last() -> None:
    asked: list[tuple[str, int]] = []

    def ask(request: Request, connections: int, seconds: float) -> Loaded:
        asked.append((request.url, connections))
        return Loaded(10, seconds, 1.0, 2.0)

    names = [DIRECT, MIDDLEWARE, ENVOY, PROXY]
    requests = {name: Request(name, "k", b"") for name in names}
    rows = measure_blocks(requests, 0, ask, many=16, seconds=1.0)

    assert [row["name"] for row in rows] == [name for name, _ in asked]
    assert {asked[index][0] for index in range(0, len(asked), 4)} == set(names)
    assert [n for _, n in asked] == [1] * 20 + [16] * 4
    assert [row["per_second"] for row in rows] == [10.0] * 20 + [5.0] * 4
