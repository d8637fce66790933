"""Rounds of settings as rows of a curve, and which rounds are still to be measured."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.result import Figure
from bench.scenarios.chunked_prefill import Offered, in_two_passes, offered_of, settings_of
from bench.scenarios.tuned_profile import CPU, SHAPE, task_of
from bench.trade_curve import (
    beside,
    curve_figures,
    curve_settings,
    group_of,
    missing,
    rounds_in,
    to_json,
)
from serving.tuning.race import Round
from serving.tuning.shapes import BUILT_IN
from serving.tuning.space import Setting

START = Setting(gpu_slots=2)
OFF = Setting(
    enable_chunked_prefill=False, max_num_batched_tokens=4096, long_prefill_token_threshold=2048,
    gpu_slots=2,
)  # fmt: skip
CURVE = curve_settings(START, OFF, [64, 512])
_, _, MIDDLE, SMALL = CURVE


def _round(setting: Setting, number: int, gap: float, capacity: float = 100.0) -> Round:
    return Round(setting, number, {"gap_p99": gap, "capacity": capacity, "ttft_p99": math.nan}, 1.0)


def _figure(figures: list[Figure], group: str, name: str) -> Figure:
    return next(one for one in figures if (one.group, one.name) == (group, name))


def test_a_curve_goes_from_no_chunks_over_the_start_to_the_smallest_budget() -> None:
    assert [group_of(one) for one in CURVE] == [
        "chunked prefill off", "as vLLM", "512 tokens", "64 tokens",
    ]  # fmt: skip
    assert MIDDLE.long_prefill_token_threshold == MIDDLE.max_num_batched_tokens == 512
    assert {one.gpu_slots for one in CURVE} == {2}


def test_rounds_of_one_number_are_compared_and_the_others_only_shown() -> None:
    rounds = [
        _round(OFF, 0, 1500.0), _round(OFF, 1, 1200.0, 80.0),
        _round(SMALL, 1, 120.0, 72.0), _round(SMALL, 2, 200.0),
    ]  # fmt: skip

    figures = curve_figures(rounds, CURVE)

    assert _figure(figures, "64 tokens", "short gap p99").values == (120.0, 200.0)
    assert _figure(figures, "64 tokens", "short gap p99 / off").values == (0.1,)
    assert _figure(figures, "64 tokens", "all at once / off").values == (0.9,)
    assert math.isnan(_figure(figures, "64 tokens", "short TTFT p99 / off").values[0])
    assert {one.group for one in figures} == {"chunked prefill off", "64 tokens"}


NUMBERS = st.lists(st.tuples(st.sampled_from(CURVE), st.integers(0, 5)), unique=True)


@given(NUMBERS)
def test_rounds_are_found_wherever_a_result_has_them(pairs: list[tuple[Setting, int]]) -> None:
    rounds = [_round(setting, number, 1.0 + number) for setting, number in pairs]
    document = {"raw": {"grid": to_json(rounds), "again": [{"deeper": to_json(rounds[:1])}]}}

    found = rounds_in(json.loads(json.dumps(document)))

    assert [(one.setting, one.number) for one in found] == pairs
    assert [one.values["gap_p99"] for one in found] == [1.0 + number for _, number in pairs]


@given(NUMBERS, st.integers(1, 6))
def test_what_is_missing_and_what_is_there_make_the_curve(
    pairs: list[tuple[Setting, int]], runs: int
) -> None:
    rounds = [_round(setting, number, 1.0) for setting, number in pairs]

    gaps = missing(rounds, CURVE, runs=runs)
    measured = [(one, n) for one, numbers in in_two_passes(gaps) for n in numbers]

    assert len(measured) == len(set(measured))
    assert set(measured) | {pair for pair in pairs if pair[1] < runs} == {
        (setting, number) for setting in CURVE for number in range(runs)
    }
    assert not set(measured) & set(pairs)


def test_a_grids_other_thresholds_are_shown_too_but_not_what_differs_otherwise() -> None:
    quarter = Setting(max_num_batched_tokens=512, long_prefill_token_threshold=128, gpu_slots=2)
    eighth = Setting(max_num_batched_tokens=512, long_prefill_token_threshold=64, gpu_slots=2)
    other = Setting(max_num_batched_tokens=512, long_prefill_token_threshold=128, gpu_slots=4)
    rounds = [_round(one, 0, 1.0) for one in (eighth, quarter, other, MIDDLE)]

    assert beside(rounds, CURVE) == (quarter, eighth)
    assert group_of(quarter) == "512 tokens, 128 of a prompt"


def test_of_two_rounds_of_one_number_the_grids_own_counts() -> None:
    grid, tune = _round(SMALL, 0, 1.0), _round(SMALL, 0, 2.0)

    (found,) = rounds_in({"raw": {"grid": to_json([grid]), "tune": to_json([tune])}})

    assert found.values["gap_p99"] == 1.0


def test_the_curve_of_the_built_in_machine_is_in_the_grid_of_tuned_profile() -> None:
    curve = settings_of(CPU, is_quick=False)

    assert [group_of(one) for one in curve] == [
        "chunked prefill off", "as vLLM",
        "1024 tokens", "512 tokens", "256 tokens", "128 tokens", "64 tokens",
    ]  # fmt: skip
    start = Setting.of(CPU.engine_profile())
    task = task_of(CPU, BUILT_IN[SHAPE], 3, is_quick=False)
    assert set(curve[2:]) <= set(task.space.settings(start) if task.space else ())


def test_what_goes_on_from_a_result_has_its_load() -> None:
    document = {"parameters": {"requests": 50, "requests_per_second": 2.1}}
    options = argparse.Namespace(rate=None, quick=False, source=Path("tuned_profile.json"))

    offered = offered_of(document, options)

    assert offered == Offered(50, 2.1)
    assert len(offered.draw(0).arrivals) == 50
    assert offered.draw(0) == offered.draw(0) != offered.draw(1)
    options.rate = 1.0
    with pytest.raises(SystemExit, match=r"had 2\.1"):
        offered_of(document, options)


def test_passes_go_forth_and_back() -> None:
    order = [(one, numbers) for one, numbers in in_two_passes([(OFF, [0, 1, 2]), (SMALL, [0])])]

    assert order == [(OFF, [0, 1]), (SMALL, [0]), (OFF, [2])]
