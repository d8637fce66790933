"""A chosen profile held against the default and the grid's best, in the grid's rounds."""

from __future__ import annotations

import math

import pytest

from bench.tuned_figures import judge
from serving.tuning.goals import CAPACITY, THROUGHPUT, Bound, Goals
from serving.tuning.race import Round
from serving.tuning.space import Setting

START = Setting()
SMALL = Setting(max_num_batched_tokens=128)
MIDDLE = Setting(max_num_batched_tokens=256)
GOALS = Goals(
    "gap_p99",
    (Bound(THROUGHPUT, 0.11, is_relative=True), Bound(CAPACITY, 0.11, is_relative=True)),
    "short",
)


def grid(**capacity_of_small: float) -> list[Round]:
    small = capacity_of_small.get("small", 850.0)
    rows = {START: (1500.0, 900.0), MIDDLE: (300.0, 880.0), SMALL: (200.0, small)}
    return [
        Round(setting, number, {
            "gap_p99": gap * (1 + number / 10), THROUGHPUT: 500.0, CAPACITY: capacity,
            "n_failed": 0.0,
        })
        for setting, (gap, capacity) in rows.items()
        for number in range(3)
    ]  # fmt: skip


def test_the_best_setting_found_cheaply_meets_all_goals() -> None:
    judged = judge(START, GOALS, grid(), SMALL, grid_seconds=1500, tune_seconds=450)

    assert judged.best == SMALL
    assert [goal.is_met for goal in judged.goals] == [True] * 4
    ratio = next(f for f in judged.figures if f.name.startswith("short p99 gap"))
    assert ratio.values == pytest.approx((7.5, 7.5, 7.5))


def test_the_second_best_is_told_by_its_distance() -> None:
    judged = judge(START, GOALS, grid(), MIDDLE, grid_seconds=1500, tune_seconds=600)

    assert [goal.is_met for goal in judged.goals] == [True, True, False, False]
    assert "50.0 %" in judged.goals[2].found


def test_a_setting_that_costs_too_much_is_neither_chosen_well_nor_the_best() -> None:
    judged = judge(START, GOALS, grid(small=700.0), SMALL, grid_seconds=1500, tune_seconds=450)

    assert judged.best == MIDDLE
    assert not judged.goals[1].is_met
    assert "capacity 22.2 %" in judged.goals[1].found


def test_every_setting_of_the_grid_is_a_row() -> None:
    judged = judge(START, GOALS, grid(), SMALL, grid_seconds=1500, tune_seconds=450)

    groups = {figure.group for figure in judged.figures}
    assert {START.name, SMALL.name, MIDDLE.name} <= groups
    assert all(not math.isinf(value) for f in judged.figures for value in f.values)
