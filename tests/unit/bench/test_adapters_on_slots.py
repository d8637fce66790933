"""What the scenario of many adapters on few slots asks, and what it reads from its rows."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.result import Result
from bench.scenarios.adapters_on_slots import (
    Point,
    before_figures,
    by_point,
    copy_seconds,
    figures_of,
    goals_of,
    points_of,
    shares_of,
)
from bench.weights_read import base_bytes, bound_of, n_parameters

SLOTS, PAST = Point(8), Point(40)
POINTS = [Point(0), Point(1), SLOTS, PAST]


def row(point: Point, run: int, rate: float, **more: float) -> dict[str, Any]:
    times = {f"{name}_p99_ms": 1.0 for name in ("ttft", "gaps", "e2e")}
    counts = {"loads_cache": 0, "evictions_slot": 0, "copy_seconds": 0.0}
    base = {"point": point.label, "run": run, "n_requests": 16, "seconds": 4.0}
    return {**base, "tokens_per_second": rate, **times, **counts, **more}


def rows(*runs: tuple[float, float, float, float], copied: float = 0.0) -> list[dict[str, Any]]:
    """Rates of base, one adapter, as many as slots, and past them, per run; the last run first."""
    return [
        row(point, run, rate, copy_seconds=copied if point == PAST else 0.0)
        for run, rates in reversed(list(enumerate(runs)))
        for point, rate in zip(POINTS, rates, strict=True)
    ]


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 500))
def test_in_turn_a_batch_holds_as_many_adapters_as_it_can(n: int, in_flight: int, at: int) -> None:
    batch = [Point(n).adapter(number, in_flight) for number in range(at, at + in_flight)]

    assert len(set(batch)) == min(n, in_flight)
    assert set(batch) <= set(range(n))


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 50))
def test_one_at_a_time_a_batch_holds_one_adapter(n: int, in_flight: int, wave: int) -> None:
    first = wave * in_flight
    point = Point(n, is_in_blocks=True)

    batch = {point.adapter(number, in_flight) for number in range(first, first + in_flight)}

    assert batch == {wave % n}


def test_the_goal_is_about_forty_adapters_and_they_are_also_measured_one_at_a_time() -> None:
    points = points_of((1, 8, 16, 40, 64), n_slots=8)

    assert points[0] == Point(0)
    assert points[-1] == Point(40, is_in_blocks=True)
    assert [point.n for point in points[1:-1]] == [1, 8, 16, 40, 64]


def test_without_adapters_past_the_slots_nothing_is_measured_one_at_a_time() -> None:
    assert not any(point.is_in_blocks for point in points_of((1, 2, 8), n_slots=8))


def test_ratios_are_of_one_run() -> None:
    figures = figures_of(rows((200, 100, 80, 60), (100, 50, 45, 40)), POINTS)

    (ratio,) = (f for f in figures if f.group == PAST.label and f.unit == "x")
    assert ratio.values == pytest.approx((0.6, 0.8))


def test_the_shares_say_where_the_time_of_a_token_went() -> None:
    # 5 ms a token for the base, 10 with one adapter, 12.5 with eight, 20 past the slots; of the
    # 4 s that the last took, 1 s was copying.
    shares = shares_of(rows((200, 100, 80, 50), copied=1.0), slots=SLOTS, past=PAST)

    assert [round(values[0], 6) for values in shares.values()] == [25, 25, 12.5, 25, 12.5]


rates = st.floats(1, 1000)


@given(st.lists(st.tuples(rates, rates, rates, rates), min_size=1, max_size=5), st.floats(0, 4))
def test_the_shares_add_up_in_every_run(
    measured: list[tuple[float, float, float, float]], copied: float
) -> None:
    shares = shares_of(rows(*measured, copied=copied), slots=SLOTS, past=PAST)

    for run in range(len(measured)):
        assert math.isclose(sum(v[run] for v in shares.values()), 100, rel_tol=1e-6, abs_tol=1e-3)


@pytest.mark.parametrize(("past", "is_met"), [(96, True), (94, False)])
def test_the_goal_is_met_from_095_on(past: float, is_met: bool) -> None:
    measured = rows((200, 100, 99, past))

    goal, where = goals_of(measured, shares_of(measured, slots=SLOTS, past=PAST), PAST)

    assert goal.is_met is is_met
    assert "base model" in where.found


def test_of_two_runs_the_median_decides_and_not_the_better_one() -> None:
    measured = rows((200, 100, 99, 80), (200, 100, 99, 105))

    goal, _ = goals_of(measured, shares_of(measured, slots=SLOTS, past=PAST), PAST)

    assert not goal.is_met


def test_an_earlier_result_is_shown_beside_and_mixes_that_it_lacks_are_left_out() -> None:
    old = figures_of(rows((200, 100, 80, 40)), POINTS)[:-6]
    before = Result("adapters_on_slots", "?", {}, tuple(old))

    added = before_figures(before, figures_of(rows((200, 120, 100, 80)), POINTS))

    ratios = {f.group: f.values for f in added if f.name == "after / before"}
    assert ratios == {"base model": (1,), "1 adapter": (1.2,), SLOTS.label: (1.25,)}


@given(st.integers(1, 64), st.floats(1, 1e9), st.floats(1, 1e9))
def test_reading_bounds_a_mix_by_the_slots_in_use_alone(n: int, base: float, slot: float) -> None:
    bound = bound_of(n, n_slots=8, base=base, slot=slot)

    assert bound_of(1, n_slots=8, base=base, slot=slot) == 1
    assert bound <= 1
    assert bound == bound_of(min(n, 8), n_slots=8, base=base, slot=slot)


def test_parameters_are_counted_from_the_headers_of_all_files(tmp_path: Path) -> None:
    for number, shape in enumerate(([3, 4], [5])):
        header = json.dumps({"__metadata__": {}, "w": {"shape": shape}}).encode()
        path = tmp_path / f"model-{number}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)

    assert n_parameters(tmp_path) == 17
    assert base_bytes(tmp_path, "bfloat16") == 34
    assert math.isnan(base_bytes(tmp_path, "auto"))


def test_values_are_in_the_order_of_the_runs() -> None:
    assert by_point(rows((1, 2, 3, 4), (5, 6, 7, 8)), "tokens_per_second")["base model"] == (1, 5)


def test_an_engine_that_has_copied_nothing_yet_has_spent_no_time_on_it() -> None:
    assert copy_seconds({}) == 0
    assert copy_seconds({"load_seconds": {"cache": {"total_seconds": 1.5}}}) == 1.5
