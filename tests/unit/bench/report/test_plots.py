"""What is drawn of a result: lines over numbers, ranges over names, and one figure over another."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.catalogue import Trade
from bench.report.plots import counted, is_dominated, is_wide, plots_of
from bench.result import Figure


def figures(name: str, unit: str, **values: float) -> list[Figure]:
    return [
        Figure(name, unit, (value, value + 1), "lower", group.replace("_", " "))
        for group, value in values.items()
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,000 adapters", (1000.0, "adapters", "")),
        ("1 adapter", (1.0, "adapters", "")),
        ("100 adapters, zipf", (100.0, "adapters", "zipf")),
        ("base model", None),
        ("8", None),
    ],
)
def test_a_name_may_begin_with_a_count(text: str, found: Any) -> None:
    assert counted(text) == found


def test_counts_are_drawn_as_a_line_in_their_order_and_what_is_none_as_a_level() -> None:
    rows = [
        Figure("throughput", "tokens/s", (value,), "higher", group)
        for group, value in
        (("64 adapters", 50.0), ("1 adapter", 90.0), ("base model", 99.0), ("8 adapters", 80.0))
    ]  # fmt: skip

    (plot,) = plots_of(rows)

    (line,) = plot["series"]
    assert (plot["kind"], plot["along"], plot["title"]) == (
        "growth", "adapters", "throughput, tokens/s",
    )  # fmt: skip
    assert [(mark["x"], mark["median"]) for mark in line["marks"]] == [(1, 90), (8, 80), (64, 50)]
    (level,) = plot["levels"]
    assert (level["label"], level["value"]) == ("base model", 99.0)
    assert (plot["log_x"], plot["log_y"]) == (True, False)


def test_a_level_of_nothing_is_no_place_on_a_logarithmic_axis() -> None:
    rows = [
        Figure("idle time", "s/min", (value,), "lower", group)
        for group, value in
        (("1 tenant", 1.0), ("8 tenants", 80.0), ("64 tenants", 900.0), ("one more", 0.0))
    ]  # fmt: skip

    (plot,) = plots_of(rows)

    assert [level["value"] for level in plot["levels"]] == [0.0]
    assert not plot["log_y"]


def test_what_follows_a_count_is_a_line_of_its_own() -> None:
    groups = ("1 adapter", "8 adapters", "40 adapters", "40 adapters, one at a time")
    rows = [Figure("throughput", "tokens/s", (1.0,), "higher", group) for group in groups]

    (plot,) = plots_of(rows)

    assert [each["name"] for each in plot["series"]] == ["throughput", "one at a time"]
    assert [len(each["marks"]) for each in plot["series"]] == [3, 1]


def test_many_lines_are_a_picture_for_each_of_what_follows() -> None:
    rows = [
        Figure(name, "us", (1.0,), "lower", f"{n} adapters, {how}")
        for name in "abcd" for n in (1, 10, 100) for how in ("uniform", "zipf")
    ]  # fmt: skip

    uniform, zipf = plots_of(rows)

    assert (uniform["along"], zipf["along"]) == ("adapters, uniform", "adapters, zipf")
    assert [each["name"] for each in zipf["series"]] == ["a", "b", "c", "d"]


def test_figures_of_one_unit_are_series_of_one_picture() -> None:
    rows = figures("p50", "ms", bare=1, ours=2) + figures("p99", "ms", bare=3, ours=4)

    (plot,) = plots_of(rows)

    assert plot["kind"] == "ranges"
    assert plot["labels"] == ["bare", "ours"]
    assert [each["name"] for each in plot["series"]] == ["p50", "p99"]
    assert (
        plot["series"][0]["marks"][0] | {"median": 1.5, "low": 1, "high": 2}
        == (plot["series"][0]["marks"][0])
    )


def test_two_marks_are_no_picture() -> None:
    assert plots_of(figures("p50", "ms", bare=1, ours=2)) == []


def test_a_trade_is_drawn_first_with_a_mark_per_setting_that_has_both() -> None:
    rows = figures("gap", "ms", a=9, b=6, c=3, d=2) + figures("throughput", "t/s", a=3, b=2, c=1)

    first, *_ = plots_of(rows, [Trade("gap", "throughput"), Trade("gap", "unheard of")])

    assert first["kind"] == "trade"
    assert [mark["label"] for mark in first["marks"]] == ["a", "b", "c"]
    assert first["x_title"] == "gap, ms: lower is better"


def test_a_trade_of_many_settings_is_drawn_alone_and_knows_the_best() -> None:
    names = [f"setting {n}" for n in range(20)]
    rows = [Figure("gap", "ms", (float(n),), "lower", name) for n, name in enumerate(names)]
    rows += [
        Figure("pace", "t/s", (7.0 - n,) if n < 3 else (1.0,), "higher", name)
        for n, name in enumerate(reversed(names))
    ]

    (plot,) = plots_of(rows, [Trade("gap", "pace")])

    best = [mark["label"] for mark in plot["marks"] if mark["is_best"]]
    assert best == ["setting 0", "setting 17", "setting 18", "setting 19"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_something_is_always_best_and_beats_all_that_is_not(costs: list[tuple[int, int]]) -> None:
    best = [cost for cost in costs if not is_dominated(cost, costs)]

    assert best
    assert all(is_dominated(cost, best) for cost in costs if cost not in best)


finite = st.floats(-1e9, 1e9)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(["1 x", "2 x", "9 x", "y", ""]),
            st.sampled_from(["ms", "x"]), st.lists(finite | st.just(math.nan), min_size=1),
        ),
        unique_by=lambda row: row[:2],
    )
)  # fmt: skip
def test_whatever_was_measured_can_be_handed_to_the_page(rows: list[Any]) -> None:
    plots = plots_of([Figure(n, unit, tuple(values), None, g) for n, g, unit, values in rows])

    assert len(plots) <= 6
    json.dumps(plots, allow_nan=False)
    for plot in plots:
        for series in plot["series"]:
            for mark in series["marks"]:
                assert mark["low"] <= mark["median"] <= mark["high"]
                assert mark["low"] > 0 or not plot["log_y" if plot["kind"] == "growth" else "log_x"]
        # A logarithm of nothing is not drawn, and nothing after it is.
        assert all(level["value"] > 0 or not plot["log_y"] for level in plot.get("levels", []))


def test_an_axis_is_logarithmic_where_small_values_could_not_be_told_apart() -> None:
    assert is_wide([1.0, 30.0])
    assert not is_wide([1.0, 29.0])
    assert not is_wide([0.0, 1000.0])
