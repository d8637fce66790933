"""One round as figures, and the loads that come before and after it."""

from __future__ import annotations

import math

from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult, Sample
from serving.tuning.round_values import load_of, packed, peak_in_flight, values_of, warm_up_of

SHAPE = Shape(
    "two kinds",
    tuple(
        Arrival(float(n), 1500 if n % 4 == 3 else 20, 4, n % 3, "long" if n % 4 == 3 else "short")
        for n in range(8)
    ),
)


def answered(arrival: Arrival, *, gap: float = 0.1, error: str | None = None) -> Sample:
    tokens = tuple(arrival.at + 0.5 + gap * n for n in range(arrival.n_output))
    return Sample(
        arrival.kind, arrival.adapter, arrival.at, arrival.at, None if error else tokens[0],
        () if error else tokens, tokens[-1], 500 if error else 200, arrival.n_prompt,
        arrival.n_output, error,
    )  # fmt: skip


def test_latencies_are_of_one_class_and_throughput_of_all() -> None:
    samples = tuple(answered(a, gap=0.1 if a.kind == "short" else 1.0) for a in SHAPE.arrivals)
    result = LoadResult(samples)

    values = values_of(result, result, kind="short")

    assert math.isclose(values["gap_p99"], 100.0, rel_tol=1e-6)
    assert math.isclose(values["ttft_p50"], 500.0, rel_tol=1e-6)
    assert values["throughput"] == values["capacity"] == result.tokens_per_second
    assert values["n_failed"] == 0


def test_without_a_load_all_at_once_there_is_no_capacity() -> None:
    result = LoadResult(tuple(answered(a) for a in SHAPE.arrivals))

    assert math.isnan(values_of(result, None, kind=None)["capacity"])


def test_failures_of_both_loads_are_counted() -> None:
    broken = LoadResult(tuple(answered(a, error="HTTP 500") for a in SHAPE.arrivals))
    whole = LoadResult(tuple(answered(a) for a in SHAPE.arrivals))

    values = values_of(whole, broken, kind=None)

    assert values["n_failed"] == len(SHAPE.arrivals)
    assert math.isnan(values["capacity"]) or values["capacity"] == 0


def test_the_warm_up_asks_every_adapter_first_and_then_a_quarter_of_the_load() -> None:
    shape = warm_up_of(SHAPE)

    assert [a.adapter for a in shape.arrivals[:3]] == [0, 1, 2]
    assert shape.arrivals[3:] == SHAPE.arrivals[:2]


def test_adapters_of_other_rounds_alone_are_warmed_up_too() -> None:
    # A rare adapter is not in each round, and shall not be read from disk in one that counts.
    shape = Shape("s", (Arrival(0.0, 5, 5, 0, "short"),))

    warm_up = warm_up_of(shape, n_adapters=3)

    assert {one.adapter for one in warm_up.arrivals if one.kind == "warm-up"} == {0, 1, 2}


def test_the_same_requests_all_at_once() -> None:
    shape = packed(SHAPE)

    assert {a.at for a in shape.arrivals} == {0.0}
    assert [a.n_prompt for a in shape.arrivals] == [a.n_prompt for a in SHAPE.arrivals]


def test_what_of_a_load_decides_which_settings_differ() -> None:
    load = load_of(SHAPE)

    assert (load.longest_prompt, load.n_adapters, load.n_requests) == (1500, 3, 8)
    assert load.longest_request == 1504


def test_most_in_flight_counts_requests_that_overlap() -> None:
    late = Arrival(0.5, 20, 4, 0, "short")
    samples = (answered(SHAPE.arrivals[0]), answered(late), answered(SHAPE.arrivals[5]))

    assert peak_in_flight(LoadResult(samples)) == 2
    assert peak_in_flight(LoadResult(())) == 0
