"""The cross-check of the load generator compares like with like."""

from __future__ import annotations

import json

import pytest

from bench.scenarios.generator_check import (
    OURS,
    THEIRS,
    figures_of,
    goals_of,
    row_of_ours,
    row_of_theirs,
    trace_lines,
)
from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult, Sample

SHAPE = Shape("s", tuple(Arrival(at, 40, 3, 0, "any") for at in (0.5, 1.0, 2.5)))
LAG = 0.25
TTFTS = (0.1, 0.2, 0.4)
GAPS = ((0.05, 0.07), (0.03, 0.02), (0.2, 0.1))


def ours() -> LoadResult:
    samples = []
    for arrival, ttft, (first, second) in zip(SHAPE.arrivals, TTFTS, GAPS, strict=True):
        sent = arrival.at + LAG
        tokens = (sent + ttft, sent + ttft + first, sent + ttft + first + second)
        samples.append(
            Sample("any", 0, arrival.at, sent, tokens[0], tokens, tokens[-1], 200, 40, 3, None)
        )
    return LoadResult(tuple(samples))


def theirs() -> dict[str, object]:
    return {
        "start_times": [900 + arrival.at for arrival in SHAPE.arrivals],
        "ttfts": list(TTFTS),
        "itls": [list(gaps) for gaps in GAPS],
        "input_lens": [40, 40, 40],
        "output_lens": [3, 3, 3],
        "errors": ["", "", ""],
    }


def test_the_same_times_give_the_same_figures_but_for_the_lag() -> None:
    mine, other = row_of_ours(ours()), row_of_theirs(theirs())

    for name in other.keys() - {"throughput"}:
        assert mine[name] == pytest.approx(other[name]), name
    assert mine["TTFT from due p50"] == pytest.approx(other["TTFT from sending p50"] + 1000 * LAG)
    # Ours starts when the first request was due, which is earlier by the lag.
    assert 129 / mine["throughput"] == pytest.approx(129 / other["throughput"] + LAG)


def test_equal_rows_meet_all_goals_and_a_failed_request_one_less() -> None:
    row = {OURS: row_of_theirs(theirs()), THEIRS: row_of_theirs(theirs())}

    assert all(goal.is_met for goal in goals_of([row, row]))
    row[OURS] = {**row[OURS], "failed": 1.0}
    assert [goal.is_met for goal in goals_of([row])] == [True, True, True, False]


def test_figures_have_a_value_per_run() -> None:
    rows = [{OURS: row_of_ours(ours()), THEIRS: row_of_theirs(theirs())}] * 3

    assert {len(figure.values) for figure in figures_of(rows)} == {3}


def test_the_trace_asks_for_the_shapes_requests_with_no_chunk_twice() -> None:
    lines = [json.loads(line) for line in trace_lines(SHAPE, seed=1).splitlines()]

    assert [(line["timestamp"], line["input_length"], line["output_length"]) for line in lines] == [
        (arrival.at, 40, 3) for arrival in SHAPE.arrivals
    ]
    hashes = [one for line in lines for one in line["hash_ids"]]
    assert len(hashes) == len(set(hashes)) == 9
