"""Samples keep every segment in sight; traffic becomes cases that anybody can find again."""

import json

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity.suite import Case, Suite
from adapters.parity.suite_sample import allocate, read_traffic, sample_suite


def suite_of(**sizes):
    return Suite(
        tuple(
            Case(id=f"{segment}-{i}", prompt=f"{segment} {i}", segment=segment)
            for segment, size in sizes.items()
            for i in range(size)
        )
    )


def drawn(sample):
    return {row.segment: row.n_sampled for row in sample.segments}


@pytest.mark.parametrize(
    ("sizes", "n", "floor", "seats"),
    [
        ({"a": 900, "b": 100}, 100, 20, {"a": 80, "b": 20}),
        ({"a": 900, "b": 100}, 100, 0, {"a": 90, "b": 10}),
        ({"a": 900, "b": 7}, 100, 20, {"a": 93, "b": 7}),
        ({"a": 500, "b": 300, "c": 200}, 10, 0, {"a": 5, "b": 3, "c": 2}),
        ({"a": 1, "b": 1, "c": 1}, 2, 0, {"a": 1, "b": 1, "c": 0}),
        # The floor of c takes seats that b needs for its own: both end on the floor.
        ({"a": 1000, "b": 222, "c": 10}, 100, 18, {"a": 72, "b": 18, "c": 10}),
        # Too few for the floors: in proportion to the floors, not to the sizes.
        ({"a": 900, "b": 100}, 10, 20, {"a": 5, "b": 5}),
        ({"a": 900, "b": 5}, 10, 20, {"a": 8, "b": 2}),
        ({"a": 3, "b": 4}, 7, 20, {"a": 3, "b": 4}),
    ],
)
def test_seats_go_by_share_and_never_below_the_floor(sizes, n, floor, seats):
    assert allocate(sizes, n, floor=floor) == seats


def test_a_sample_keeps_the_order_and_says_where_it_comes_from():
    suite = suite_of(common=300, rare=30)

    sample = sample_suite(suite, 60, seed=1)

    positions = [suite.cases.index(case) for case in sample.suite.cases]
    assert drawn(sample) == {"common": 40, "rare": 20}
    assert positions == sorted(positions)
    assert sample.notes == ()
    assert (sample.seed, sample.floor_per_segment) == (1, 20)


def test_the_seed_decides_and_a_larger_sample_holds_the_smaller():
    suite = suite_of(a=200)

    small = sample_suite(suite, 50, seed=1).suite.cases

    assert sample_suite(suite, 50, seed=1).suite.cases == small
    assert sample_suite(suite, 50, seed=2).suite.cases != small
    assert set(map(id, small)) < set(map(id, sample_suite(suite, 60, seed=1).suite.cases))


def test_draws_are_spread_over_the_whole_file():
    suite = suite_of(a=1000)

    n_first_half = sum(
        int(case.id.removeprefix("a-")) < 500
        for seed in range(20)
        for case in sample_suite(suite, 100, seed=seed).suite.cases
    )

    # 1000 of 2000 are expected, with a standard deviation of about 21.
    assert 900 < n_first_half < 1100


def test_a_floor_that_cannot_be_met_is_said_with_its_reason():
    sample = sample_suite(suite_of(a=300, b=5, c=50), 30, seed=0)

    assert [row.is_floor_met for row in sample.segments] == [False, False, False]
    assert "a sample of 30 is too small" in sample.notes[0]
    few = sample_suite(suite_of(a=300, b=5), 100, seed=0)
    assert drawn(few) == {"a": 95, "b": 5}
    assert few.notes == (
        "Segment 'b' has 5 of the 20 cases that it should have: the suite has no more.",
    )


def test_a_sample_as_large_as_the_suite_is_the_suite():
    suite = suite_of(a=30, b=3)

    assert sample_suite(suite, 1000, seed=0).suite.digest == suite.digest
    for n, floor in ((0, 0), (5, -1)):
        with pytest.raises(ValueError, match="floor_per_segment"):
            sample_suite(suite, n, floor_per_segment=floor, seed=0)


ASKED = [{"role": "user", "content": "hi"}]


def traffic(*rows, **options):
    return read_traffic("\n".join(json.dumps(row) for row in rows).encode(), **options)


def test_requests_become_cases_without_gold_and_exact_duplicates_go():
    tools = [{"type": "function", "function": {"name": "f"}}]
    first = {"messages": ASKED, "tools": tools, "model": "acme/support", "temperature": 0.7}
    rows = [first, {**first, "temperature": 0.1}, {"prompt": "once", "segment": "s"}]

    suite = traffic(*rows, segment="chat")

    assert [case.segment for case in suite.cases] == ["chat", "s"]
    assert list(suite.cases[0].tools) == tools
    assert [case.expect for case in suite.cases] == [None, None]
    assert traffic(rows[2]).cases[0].id == suite.cases[1].id


def test_a_limit_of_the_request_is_kept_as_far_as_a_suite_allows():
    rows = [
        {"messages": ASKED, "max_tokens": 7, "tools": None},
        {"prompt": "a", "max_completion_tokens": 100_000},
        {"prompt": "b"},
    ]

    assert [case.max_tokens for case in traffic(*rows).cases] == [7, 8192, 32]
    assert [case.max_tokens for case in traffic(*rows, max_tokens=9).cases] == [9, 9, 9]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"input": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content[0]"),
        ({"prompt": "a", "max_tokens": "many"}, "max_tokens"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_refused_by_line_and_field(row, field):
    with pytest.raises(SuiteInvalid) as caught:
        traffic({"prompt": "fine"}, row)

    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, field)
