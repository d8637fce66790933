"""Goals of a replay: what a file may say, and what is asked where nothing is said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.slo import (
    LATENCIES,
    Slo,
    SloInvalid,
    Slos,
    default_goals,
    parse_slos,
    read_slos,
)

WINDOW = Shape(
    "window",
    (
        Arrival(0.0, 20, 24, 0, "short"),
        Arrival(0.5, 1500, 24, 0, "long"),
        Arrival(0.9, 30, 1, 0, "label"),
    ),
)


def test_a_file_says_limits_by_class_and_how_much_worse_than_the_current_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "goals.yaml").write_text(
        "limits:\n  short: {ttft_p99: 800, gap_p99: 150}\n  all: {throughput: 300}\n"
        "against_current:\n  short: {gap_p99: 1.1}\nmax_failed_ratio: 0.001\n"
    )

    found = read_slos(tmp_path / "goals.yaml")

    assert found == Slos(
        (
            Slo("ttft_p99", 800, "short"),
            Slo("gap_p99", 150, "short"),
            Slo("throughput", 300),
            Slo("gap_p99", 1.1, "short", is_relative=True),
        ),
        0.001,
    )


@pytest.mark.parametrize(
    ("document", "field", "problem"),
    [
        (None, "", "is not a mapping"),
        ({}, "limits", "nothing is asked"),
        ({"limit": {}}, "limit", "did you mean limits"),
        ({"limits": 3}, "limits", "is not a mapping"),
        ({"limits": {"short": {"ttft_99": 1}}}, "limits.short.ttft_99", "did you mean ttft_p99"),
        ({"limits": {"short": {"ttft_p99": "1"}}}, "limits.short.ttft_p99", "is not a number"),
        ({"limits": {"short": {"ttft_p99": 0}}}, "limits.short.ttft_p99", "is not above 0"),
        ({"limits": {"short": {"throughput": 1}}}, "limits.short.throughput", "is not a field"),
        ({"limits": {"all": {"gap_p99": 1}}, "max_failed_ratio": 0.5}, "max_failed_ratio", "0.01"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_field_and_the_fix(
    document: Any, field: str, problem: str
) -> None:
    with pytest.raises(SloInvalid, match=problem) as refused:
        parse_slos(document)

    assert refused.value.field == field


@pytest.mark.parametrize(
    "text",
    ["limits:\n  short: {gap_p99: 9}\n  short: {ttft_p99: 9}\n", "limits: {a: 2026-13-45}\n"],
)
def test_a_file_that_says_a_thing_twice_or_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "goals.yaml").write_text(text)

    with pytest.raises(SloInvalid, match=r"goals\.yaml"):
        read_slos(tmp_path / "goals.yaml")


def test_without_a_current_one_the_goals_are_those_of_a_person_who_waits() -> None:
    assert {slo.text for slo in default_goals(WINDOW, has_current=False)} == {
        "p99 TTFT of short requests at most 2000 ms",
        "p99 TTFT of label requests at most 2000 ms",
        "p99 gap between tokens of short requests at most 200 ms",
        "p99 gap between tokens of long requests at most 200 ms",
    }


def test_with_a_current_one_the_goals_are_not_to_be_much_worse() -> None:
    goals = default_goals(WINDOW, has_current=True)

    assert all(slo.is_relative for slo in goals)
    assert Slo("throughput", 0.95, is_relative=True) in goals
    assert Slo("gap_p99", 1.25, "long", is_relative=True) in goals
    assert Slo("gap_p99", 1.25, "label", is_relative=True) not in goals
    Slos(goals).check(WINDOW, has_current=True)


def test_goals_that_the_replay_cannot_show_are_refused() -> None:
    with pytest.raises(SloInvalid, match="name one"):
        Slos((Slo("gap_p99", 1.1, is_relative=True),)).check(WINDOW, has_current=False)
    with pytest.raises(SloInvalid, match="label, long, short"):
        Slos((Slo("gap_p99", 90, "batch"),)).check(WINDOW, has_current=False)
    with pytest.raises(SloInvalid, match="twice"):
        Slos((Slo("gap_p99", 90), Slo("gap_p99", 80)))


@given(
    metric=st.sampled_from([*LATENCIES, "throughput"]),
    limit=st.floats(0.1, 1e4),
    value=st.floats(0.1, 1e4),
    current=st.floats(0.1, 1e4),
    is_relative=st.booleans(),
)
def test_the_figure_is_read_back_from_how_far_it_is_over_the_limit(
    metric: str, limit: float, value: float, current: float, is_relative: bool
) -> None:
    slo = Slo(metric, limit, is_relative=is_relative)

    excess = slo.excess({metric: value}, {metric: current})

    figure = value / current if is_relative else value
    assert slo.figure_at(excess) == pytest.approx(figure)
    is_worse = figure < limit if metric == "throughput" else figure > limit
    assert math.isclose(figure, limit) or (excess > 0) == is_worse
