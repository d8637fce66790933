"""Whatever a model writes is an answer: no exception, and time linear in its length."""

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.parity.scoring import json_values, parse_tool_calls
from bench.bfcl.spelling import spell

PIECES = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"),
        *("<|python_start|>", "<think>", "</think>", "```json\n", "```", ";", "[f(", "f(a=", ")]"),
        *('{"name": "f", "arguments": {"a": 1}}', '{"name": "f", "arguments": ', '"', "'", "\\"),
        *("{", "}", "[", "]", "(", ")", ":", ",", " ", "\n", "null", "NaN", "1e999", "\ud800", "é"),
    ]
)
JUNK = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}(\.[a-z]{1,4})?", fullmatch=True)
CALLS = st.lists(
    st.tuples(NAMES, st.dictionaries(st.text(max_size=5), VALUES, max_size=3)).map(
        lambda pair: {pair[0]: pair[1]}
    ),
    min_size=1,
    max_size=3,
)


@given(JUNK)
def test_any_text_is_an_answer(text):
    answer = parse_tool_calls(text)

    assert (answer.syntax is None) == (not answer.calls and answer.problem is None)
    for call in answer.calls:
        assert call.name.strip()
        json.dumps(dict(call.arguments), allow_nan=False)


@given(st.lists(VALUES | st.fixed_dictionaries({"function": VALUES}), min_size=1, max_size=3))
def test_any_list_of_calls_in_a_response_is_an_answer(items):
    answer = parse_tool_calls("", tool_calls=items)

    assert len(answer.calls) < len(items) or answer.problem is None


@given(CALLS, st.integers(0, 4))
def test_calls_are_read_as_they_were_written_in_every_syntax(calls, number):
    text, tool_calls = spell(calls, number)

    answer = parse_tool_calls(text, tool_calls=tool_calls)

    assert answer.problem is None
    assert [{call.name: dict(call.arguments)} for call in answer.calls] == calls


@pytest.mark.parametrize("piece", ['{"a":', "[{", '{"', '{"name":"f","arguments":', "{ ", "[["])
def test_a_long_text_of_beginnings_is_tried_a_bounded_number_of_times(piece):
    text = piece * (100_000 // len(piece))

    tried = list(islice(json_values.iter_values(text), 1000))

    assert len(tried) <= 64
    assert parse_tool_calls(text).calls == ()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        *("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "[f(", "[f('", '[f("\\"', "```       "),
        *("</think>", "[" + " " * 99, "<|python_tag|>{};", "[TOOL_CALLS]a"),
        '{"name":"f","arguments":{}}',
    ],
)
def test_100_kilobytes_of_any_one_mark_are_read(piece):
    answer = parse_tool_calls(piece * (100_000 // len(piece)))

    assert answer.content is not None
