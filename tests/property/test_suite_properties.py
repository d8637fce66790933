"""Whatever a file holds, reading it ends in a suite or in SuiteInvalid; samples keep their sums."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.errors import SuiteInvalid
from adapters.parity.suite import (
    Case,
    Suite,
    format_suite,
    parse_pool,
    parse_suite,
    scan_suite,
)
from adapters.parity.suite_import import import_bfcl, import_openai_messages
from adapters.parity.suite_review import review_suite
from adapters.parity.suite_sample import allocate, read_traffic, sample_suite

NAMES = [
    *("id", "messages", "prompt", "tools", "segment", "max_tokens", "expect", "role", "content"),
    *("tool_calls", "json", "text", "any_of", "match", "name", "arguments", "alternatives"),
    *("optional", "type", "function", "parameters", "properties", "required", "question", "items"),
    *("ground_truth", "weight", "error"),
]
WORDS = ["user", "assistant", "tool", "f", "exact", "contains", "object", "dict", "array", "a", ""]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9000),
    st.floats(-1e9, 1e9),
    st.sampled_from([*WORDS, math.nan, math.inf, "\ud800"]),
    st.text(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=4),
    ),
    max_leaves=12,
)
CALL = {"name": "f", "arguments": {"a": 1}, "alternatives": {"a": [2]}, "optional": ["a"]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
SPOKEN_CALL = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "go"}]},
    {"role": "assistant", "content": None, "tool_calls": [SPOKEN_CALL]},
    {"role": "tool", "content": '{"error": "down"}'},
]
EXPECT = {"any_of": [{"text": "x", "match": "exact"}, {"json": {"a": 1}}, {"tool_calls": [CALL]}]}
VALID = {
    "id": "simple_0",
    "messages": MESSAGES,
    "tools": [{"type": "function", "function": FUNCTION}],
    "segment": "s",
    "max_tokens": 40,
    "expect": EXPECT,
}
ANSWERED = {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [SPOKEN_CALL]}]}
QUESTION = {
    "id": "simple_0",
    "question": [MESSAGES[:1]],
    "function": [FUNCTION],
    "ground_truth": [{"f": {"a": ["x", "", {"k": ["", 1]}]}}],
}


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*at, key)
        if isinstance(item, dict | list):
            yield from paths(item, (*at, key))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A right line of one of the formats with up to two places changed or taken away."""
    row: dict[str, Any] = copy.deepcopy(draw(st.sampled_from([VALID, ANSWERED, QUESTION])))
    for _ in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from(list(paths(row))))
        place = functools.reduce(lambda inner, key: inner[key], way, row)
        if draw(st.booleans()):
            place[last] = draw(values)
        else:
            del place[last]
        if not row:
            break
    return row


def encode(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


files = st.one_of(
    damaged().map(lambda row: encode([row])),
    st.lists(damaged() | values, max_size=3).map(encode),
    st.binary(max_size=30),
    st.text(max_size=30).map(lambda text: text.encode(errors="replace")),
)


def as_questions(data: bytes) -> Suite:
    return import_bfcl(data, data)


READERS = [parse_suite, parse_pool, as_questions, import_openai_messages, read_traffic]


@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__name__))
@given(data=files)
@example(data=b"[" * 5000)
@example(data=b'{"id": "a", "prompt": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(data=b'{"a": ' + b"9" * 5000 + b"}")
def test_reading_anything_ends_in_a_suite_that_can_be_used_or_in_suite_invalid(
    read: Callable[[bytes], Suite], data: bytes
) -> None:
    try:
        suite = read(data)
    except SuiteInvalid as exc:
        said = [exc.fields["problem"], exc.fields["fix"], json.dumps(exc.fields)]
        assert all(said)
        return

    assert parse_suite(format_suite(suite)) == suite
    assert parse_suite(format_suite(suite)).digest == suite.digest
    assert all(note.text and note.fix for note in review_suite(suite))
    assert {case.is_recovery for case in suite.cases} <= {True, False}


schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["dict", "object"]),
        "properties": st.dictionaries(
            st.sampled_from("abc"),
            st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "dict"])})
            | values,
        ),
        "required": st.lists(st.sampled_from("abc"), max_size=2) | values,
    },
)
truths = st.lists(
    st.dictionaries(
        st.sampled_from("fg"),
        st.dictionaries(
            st.sampled_from("abc"), st.lists(st.just("") | values, max_size=3) | values, max_size=3
        ),
        min_size=1,
        max_size=1,
    ),
    max_size=2,
)


@given(schemas | values, truths)
def test_any_schema_with_any_answers_ends_in_a_suite_or_in_suite_invalid(
    schema: Any, truth: Any
) -> None:
    question = {
        "id": "simple_0",
        "question": [[{"role": "user", "content": "go"}]],
        "function": [{"name": "f", "parameters": schema}, {"name": "g"}],
    }
    answers = encode([{"id": "simple_0", "ground_truth": truth}])
    try:
        suite = import_bfcl(encode([question]), answers)
    except SuiteInvalid:
        return

    assert parse_suite(format_suite(suite)) == suite


@given(files)
def test_a_scan_finds_what_parsing_refuses_first_and_never_raises(data: bytes) -> None:
    scan = scan_suite(data)

    if not scan.errors:
        assert parse_suite(data).cases == scan.cases
        return
    with pytest.raises(SuiteInvalid) as caught:
        parse_suite(data)
    assert caught.value.fields == scan.errors[0].fields


sizes = st.dictionaries(st.text(max_size=3), st.integers(1, 60), min_size=1, max_size=6)


@given(sizes, st.integers(0, 400), st.integers(0, 30))
def test_seats_add_up_and_keep_every_bound(sizes: dict[str, int], n: int, floor: int) -> None:
    n = min(n, sum(sizes.values()))
    floors = {segment: min(floor, size) for segment, size in sizes.items()}

    seats = allocate(sizes, n, floor=floor)

    assert list(seats) == list(sizes)
    assert sum(seats.values()) == n
    assert all(0 <= seats[segment] <= size for segment, size in sizes.items())
    if sum(floors.values()) <= n:
        assert all(seats[segment] >= floors[segment] for segment in sizes)


@given(sizes, st.integers(0, 400))
def test_without_a_floor_no_segment_is_a_seat_away_from_its_share(
    sizes: dict[str, int], n: int
) -> None:
    total = sum(sizes.values())
    n = min(n, total)

    seats = allocate(sizes, n, floor=0)

    assert all(abs(seats[segment] - n * size / total) < 1 for segment, size in sizes.items())


@given(sizes, st.integers(1, 400), st.integers(0, 30), st.integers())
def test_a_sample_is_a_part_of_the_suite_in_its_order(
    sizes: dict[str, int], n: int, floor: int, seed: int
) -> None:
    suite = Suite(
        tuple(
            Case(id=f"{segment}/{i}", prompt="x", segment=segment or "all")
            for segment, size in sizes.items()
            for i in range(size)
        )
    )

    sample = sample_suite(suite, n, floor_per_segment=floor, seed=seed)

    ids = [case.id for case in sample.suite.cases]
    assert len(ids) == len(set(ids)) == min(n, len(suite.cases))
    assert ids == [case.id for case in suite.cases if case.id in set(ids)]
    counted = Counter(case.segment for case in sample.suite.cases)
    assert {row.segment: row.n_sampled for row in sample.segments if row.n_sampled} == counted
    assert sample == sample_suite(suite, n, floor_per_segment=floor, seed=seed)
    assert len(sample.notes) == sum(row.n_sampled < floor for row in sample.segments)
