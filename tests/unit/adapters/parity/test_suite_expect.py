"""Every wrong expectation is refused by its own path; every right one is kept as it was written."""

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity.suite_expect import (
    kind_of,
    longest_gold,
    read_expect,
    room_for,
    shortest_gold,
)

CALL = {"name": "f", "arguments": {"a": 1}}
RICH = {
    "name": "f",
    "arguments": {"a": 1, "b": 2},
    "alternatives": {"a": [10, 1000], "c": ["x"]},
    "optional": ["b", "c"],
}


def read(value, names=None):
    return read_expect(3, value, tool_names=names)


@pytest.mark.parametrize(
    "value",
    [
        {"tool_calls": []},
        {"tool_calls": [CALL, CALL]},
        {"tool_calls": [RICH]},
        {"tool_calls": [{"name": "a.b-c", "arguments": {}}]},
        {"json": {}},
        {"json": [1, None]},
        {"text": "x"},
        {"text": "x", "match": "exact"},
        {"text": "x", "match": "contains"},
        {"any_of": [{"text": "x"}, {"tool_calls": []}, {"json": {"a": 1}}]},
    ],
)
def test_an_expectation_is_kept_as_it_was_written(value):
    assert read(value, frozenset({"f", "a.b-c"})) is value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "expect"),
        ([], "expect"),
        ({}, "expect"),
        ({"text": "x", "json": {}}, "expect"),
        ({"match": "exact"}, "expect"),
        ({"text": "x", "weight": 2}, "expect.weight"),
        ({"json": {}, "match": "exact"}, "expect.match"),
        ({"tool_calls": CALL}, "expect.tool_calls"),
        ({"tool_calls": None}, "expect.tool_calls"),
        ({"tool_calls": [CALL, "f"]}, "expect.tool_calls[1]"),
        ({"tool_calls": [{"arguments": {}}]}, "expect.tool_calls[0].name"),
        ({"tool_calls": [{"name": "", "arguments": {}}]}, "expect.tool_calls[0].name"),
        ({"tool_calls": [{"name": 4, "arguments": {}}]}, "expect.tool_calls[0].name"),
        ({"tool_calls": [{"name": "f"}]}, "expect.tool_calls[0].arguments"),
        ({"tool_calls": [{"name": "f", "arguments": "{}"}]}, "expect.tool_calls[0].arguments"),
        ({"tool_calls": [{**CALL, "id": "1"}]}, "expect.tool_calls[0].id"),
        ({"json": "x"}, "expect.json"),
        ({"json": None}, "expect.json"),
        ({"json": 4}, "expect.json"),
        ({"text": ""}, "expect.text"),
        ({"text": 4}, "expect.text"),
        ({"text": "x", "match": "regex"}, "expect.match"),
        ({"text": "x", "match": ["exact"]}, "expect.match"),
        ({"any_of": []}, "expect.any_of"),
        ({"any_of": {"text": "x"}}, "expect.any_of"),
        ({"any_of": [{"text": "x"}, {"text": ""}]}, "expect.any_of[1].text"),
        ({"any_of": [{"any_of": [{"text": "x"}]}]}, "expect.any_of[0]"),
        ({"any_of": ["x"]}, "expect.any_of[0]"),
    ],
)
def test_what_is_no_expectation_is_refused_where_it_is_wrong(value, field):
    with pytest.raises(SuiteInvalid) as caught:
        read(value)

    fields = caught.value.fields
    assert (fields["line"], fields["field"]) == (3, field)
    assert fields["problem"]
    assert fields["fix"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"alternatives": [1]}, "alternatives"),
        ({"alternatives": {"a": 1}}, "alternatives.a"),
        ({"alternatives": {"a": []}}, "alternatives.a"),
        ({"alternatives": {"z": [1]}}, "alternatives.z"),
        ({"optional": "a"}, "optional"),
        ({"optional": [1]}, "optional"),
        ({"optional": ["a", "a"]}, "optional"),
        ({"optional": ["z"]}, "optional[0]"),
    ],
)
def test_alternatives_and_optional_speak_of_arguments_that_have_a_right_value(change, field):
    with pytest.raises(SuiteInvalid) as caught:
        read({"tool_calls": [{**CALL, **change}]})

    assert caught.value.fields["field"] == f"expect.tool_calls[0].{field}"


def test_a_gold_call_names_a_tool_of_the_case_where_the_case_has_tools():
    wrong = {"any_of": [{"text": "x"}, {"tool_calls": [CALL]}]}

    for names in (frozenset({"g"}), frozenset()):
        with pytest.raises(SuiteInvalid) as caught:
            read(wrong, names)
        assert caught.value.fields["field"] == "expect.any_of[1].tool_calls[0].name"
    assert read(wrong, None) is wrong
    assert read({"tool_calls": []}, frozenset()) == {"tool_calls": []}


def test_the_shortest_right_answer_leaves_out_what_it_may_and_the_longest_gives_everything():
    rich = {"tool_calls": [RICH]}

    assert shortest_gold(rich) == '{"name": "f", "arguments": {"a": 1}}'
    assert longest_gold(rich) == '{"name": "f", "arguments": {"a": 1000, "b": 2, "c": "x"}}'
    assert shortest_gold({"any_of": [{"text": "long"}, {"text": "x"}]}) == "x"
    assert longest_gold({"any_of": [{"json": {"é": 1}}, {"text": "x"}]}) == '{"é": 1}'
    assert [kind_of(rich), kind_of({"text": "x", "match": "exact"})] == ["tool_calls", "text"]


def test_room_grows_with_the_answer_in_steps_and_ends_at_the_limit():
    assert room_for(None) == room_for({"tool_calls": []}) == 128
    assert room_for({"text": "x"}) == 64
    assert room_for({"text": "x" * 200}) == 160
    assert room_for({"text": "語" * 200}) > 200
    assert room_for({"text": "x" * 10**6}) == 8192
