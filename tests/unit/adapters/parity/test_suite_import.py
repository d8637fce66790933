"""Recorded conversations become cases: the last answer is the gold, the rest is asked."""

import json

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity.suite import format_suite, parse_suite
from adapters.parity.suite_import import import_openai_messages, merge_suites

ASKED = {"role": "user", "content": "Weather in Lima?"}
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Lima"}'},
}


def answered(**answer):
    return {"messages": [ASKED, {"role": "assistant", **answer}]}


def read(*rows, **options):
    data = "\n".join(json.dumps(row) for row in rows).encode()
    return import_openai_messages(data, **options)


def gold(row):
    return read(row).cases[0].expect


def refused(*rows):
    with pytest.raises(SuiteInvalid) as caught:
        read(*rows)
    assert caught.value.fields["fix"]
    return caught.value.fields["line"], caught.value.fields["field"]


def test_the_last_answer_leaves_the_messages_and_becomes_the_gold():
    row = {**answered(content="Ask me tomorrow."), "tools": TOOLS}

    (case,) = read(row, segment="chat").cases

    assert list(case.messages) == [ASKED]
    assert list(case.tools) == TOOLS
    assert case.expect == {"text": "Ask me tomorrow."}
    assert case.segment == "chat"
    assert case.id.startswith("openai-")


def test_tool_calls_become_objects_and_win_over_content():
    expected = {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Lima"}}]}
    spelled = {"function": {"name": "get_weather", "arguments": {"city": "Lima"}}}
    empty = {"function": {"name": "get_weather", "arguments": ""}}

    assert gold(answered(content=None, tool_calls=[CALL])) == expected
    assert gold(answered(content="One moment.", tool_calls=[spelled])) == expected
    assert gold(answered(tool_calls=[empty]))["tool_calls"][0]["arguments"] == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"city": "Lima"}', {"json": {"city": "Lima"}}),
        ("  {}\n", {"json": {}}),
        ("[1]", {"text": "[1]"}),
        ("4", {"text": "4"}),
        ('{"a": NaN}', {"text": '{"a": NaN}'}),
        ('{"a": "\\ud800"}', {"text": '{"a": "\\ud800"}'}),
        ('{"a":' * 99 + "1" + "}" * 99, {"text": '{"a":' * 99 + "1" + "}" * 99}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"text": "ab"}),
    ],
)
def test_content_is_json_where_it_is_an_object_and_text_otherwise(content, expected):
    assert gold(answered(content=content)) == expected


def test_earlier_turns_and_failed_tools_stay_and_training_weights_go():
    turns = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "tool_call_id": "1", "content": '{"error": "timeout"}'},
    ]

    (case,) = read({"messages": [*turns, {"role": "assistant", "content": "Try later."}]}).cases

    assert [message["role"] for message in case.messages] == ["user", "assistant", "tool"]
    assert "weight" not in case.messages[1]
    assert case.is_recovery


def test_fields_of_a_suite_are_kept_and_fields_of_training_are_left_out():
    own = {"id": "x", "segment": "s", "max_tokens": 5}
    row = {**answered(content="a"), **own, "parallel_tool_calls": False, "metadata": {"k": 1}}

    (case,) = read(row, segment="other", max_tokens=9).cases

    assert (case.id, case.segment, case.max_tokens) == ("x", "s", 5)
    assert read(answered(content="a"), max_tokens=9).cases[0].max_tokens == 9
    assert read(answered(content="a" * 1000)).cases[0].max_tokens == 544


def test_the_same_line_again_is_left_out_and_another_answer_is_another_case():
    suite = read(answered(content="a"), answered(content="a"), answered(content="b"))

    assert len(suite.cases) == 2
    assert len({case.id for case in suite.cases}) == 2
    assert parse_suite(format_suite(suite)) == suite


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "a", "completion": "b"}, "completion"),
        ({}, "messages"),
        ({"messages": [ASKED]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages"),
        (answered(content=" "), "messages[1]"),
        (answered(content=None, tool_calls=[]), "messages[1]"),
        (
            answered(tool_calls=[{"function": {"name": "f", "arguments": "[1]"}}]),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {**answered(tool_calls=[CALL]), "tools": []},
            "expect.tool_calls[0].name",
        ),
        ({**answered(content="a"), "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({**answered(content="a"), "functions": []}, "functions"),
        ({**answered(content="a"), "max_tokens": "many"}, "max_tokens"),
    ],
)
def test_a_line_that_is_no_answered_conversation_is_refused_by_line_and_field(row, field):
    assert refused(answered(content="first"), row) == (2, field)


def test_an_id_of_the_file_itself_is_not_used_twice():
    row = {**answered(content="a"), "id": "x"}

    assert refused(row, row) == (2, "id")


def test_suites_are_joined_with_each_case_once_and_no_id_for_two():
    first, second = read(answered(content="a")), read(answered(content="b"), answered(content="a"))

    joined = merge_suites([first, second])

    assert [case.expect["text"] for case in joined.cases] == ["a", "b"]
    with pytest.raises(SuiteInvalid):
        merge_suites([first, read({**answered(content="z"), "id": first.cases[0].id})])
