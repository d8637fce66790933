"""Counts per adapter and who has series of its own."""

from __future__ import annotations

import math

from serving.contract import INTER_TOKEN_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS
from serving.engine.ports import AdapterLoads
from serving.engine.series import (
    OTHER,
    FinishedRequest,
    Seconds,
    SeriesLimit,
    Tally,
    add_loads,
)


def test_a_measurement_on_a_bound_belongs_to_it_and_nan_to_none() -> None:
    seconds = Seconds((0.1, 1.0))

    for measured in (0.1, 0.1000001, 1.0, 1.1, math.nan, math.inf):
        seconds.observe(measured)

    assert seconds.counts == [1, 2, 1]


def test_a_sum_of_tallies_is_the_tally_of_both() -> None:
    first = FinishedRequest("a/a@1", 7, 5, 0.2, 2.0, "stop", 0.01, 0.5)
    second = FinishedRequest("a/a@1", 3, 1, math.nan, 1.0, "abort")
    one, two, both = Tally(), Tally(), Tally()
    one.finished(first)
    two.finished(second)
    for request in (first, second):
        both.finished(request)

    one.add(two)

    assert (one.requests, one.prompt_tokens, one.completion_tokens) == (both.requests, 10, 6)
    assert one.wait_seconds == both.wait_seconds == 0.5
    for found, wanted, bounds in (
        (one.ttft, both.ttft, TTFT_BOUNDS_SECONDS),
        (one.e2e, both.e2e, TTFT_BOUNDS_SECONDS),
        (one.inter_token, both.inter_token, INTER_TOKEN_BOUNDS_SECONDS),
    ):
        assert (found.counts, found.total) == (wanted.counts, wanted.total)
        assert len(found.counts) == len(bounds) + 1


def test_loads_add_up_field_by_field() -> None:
    left, right = AdapterLoads(1, 2, 3, 4, 5, 6, 7.5), AdapterLoads(10, 20, 30, 40, 50, 60, 0.5)

    assert add_loads(left, right) == AdapterLoads(11, 22, 33, 44, 55, 66, 8.0)


def test_the_first_names_have_series_and_the_later_ones_share_one() -> None:
    limit = SeriesLimit(2)

    assert [limit.label(name) for name in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_a_free_place_goes_to_a_new_name_and_never_to_one_of_the_others() -> None:
    limit = SeriesLimit(2)
    for name in "abc":
        limit.label(name)

    limit.forget("a")

    assert limit.is_other("c")
    assert [limit.label(name) for name in "cda"] == [OTHER, "d", OTHER]
