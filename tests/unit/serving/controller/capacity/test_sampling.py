from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.contract import AdapterCounts, EngineReport
from serving.controller.capacity.sampling import (
    COUNTED,
    MAX_ADAPTERS,
    Sample,
    bucket_of,
    mark_of,
    take_sample,
)
from tests.builders.controller import a_report


def counted(counts: dict[str, list[int]], **about: Any) -> EngineReport:
    listed = [
        AdapterCounts(name=name, **dict(zip(COUNTED, values, strict=True)))
        for name, values in counts.items()
    ]
    return a_report(counts=listed, **about)


def sampled(before: dict[str, list[int]], now: dict[str, list[int]], **about: Any) -> Sample:
    return take_sample(mark_of(counted(before)), counted(now, **about))


def test_only_what_changed_is_named_without_its_trailing_zeros() -> None:
    before = {"acme/a@1": [5, 1, 2, 3, 4], "acme/b@1": [9, 0, 0, 0, 0]}

    sample = sampled(before, {**before, "acme/a@1": [8, 1, 3, 3, 4], "acme/c@1": [1, 1, 0, 0, 0]})

    assert sample.adapters == {"acme/a@1": [3, 0, 1], "acme/c@1": [1, 1]}
    assert (sample.total, sample.other) == ([4, 1, 1, 0, 0], [0] * 5)


def test_a_later_start_of_the_engine_counts_from_zero() -> None:
    sample = sampled({"acme/a@1": [5, 0, 0, 0, 0]}, {"acme/a@1": [7, 0, 0, 0, 0]}, started_at=2.0)

    assert sample.total[0] == 7


def test_a_counter_that_went_back_counts_from_zero() -> None:
    sample = sampled({"acme/a@1": [5, 2, 0, 0, 0]}, {"acme/a@1": [3, 1, 0, 0, 0]})

    assert sample.adapters == {"acme/a@1": [3, 1]}


def test_more_adapters_than_may_be_named_are_one_sum() -> None:
    now = {f"acme/a@{n}": [n, 0, 0, 0, 0] for n in range(1, MAX_ADAPTERS + 51)}

    sample = sampled({}, now)

    assert len(sample.adapters) == MAX_ADAPTERS
    assert "acme/a@50" not in sample.adapters
    assert sample.other[0] == sum(range(1, 51))
    assert sample.total[0] == sum(range(1, MAX_ADAPTERS + 51))


def test_intervals_are_ten_seconds() -> None:
    assert [bucket_of(at) for at in (0.0, 9.99, 10.0)] == [0, 0, 1]


_COUNTS = st.lists(st.integers(0, 9), min_size=5, max_size=5)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), _COUNTS), min_size=1, max_size=6))
def test_samples_add_up_to_what_was_counted(additions: list[dict[str, list[int]]]) -> None:
    total: dict[str, list[int]] = {}
    mark, sums = mark_of(counted({})), [0] * 5
    for added in additions:
        for name, values in added.items():
            known = total.get(name, [0] * 5)
            total[name] = [a + b for a, b in zip(known, values, strict=True)]
        report = counted(total)
        sample = take_sample(mark, report)
        mark = mark_of(report)
        sums = [a + b for a, b in zip(sums, sample.total, strict=True)]

    assert sums == [sum(values[place] for values in total.values()) for place in range(5)]
