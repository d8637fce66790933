"""Messages and tools of a suite line: what is taken, and by which path the rest is refused."""

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity.suite_fields import MAX_DEPTH, read_messages, read_object, read_tools

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
ASKED = {"role": "user", "content": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_a_conversation_with_tools_and_their_errors_is_taken_as_it_is():
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}], "name": "s"},
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "tool_call_id": "1", "content": '{"error": "down"}'},
    ]

    assert list(read_messages(1, messages)) == messages


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("hi", ""),
        ({"content": "hi"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": None}, ".content"),
        ({"role": "tool", "content": None}, ".content"),
        ({"role": "user", "content": 4}, ".content"),
        ({"role": "user", "content": []}, ".content"),
        ({"role": "user", "content": ["hi"]}, ".content[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ".content[0]"),
        ({"role": "user", "content": "hi", "tool_calls": [CALL]}, ".tool_calls"),
        ({"role": "assistant", "tool_calls": {}}, ".tool_calls"),
        ({"role": "assistant", "tool_calls": ["f"]}, ".tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"name": "f"}]}, ".tool_calls[0]"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            ".tool_calls[0].function.name",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            ".tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_message_that_is_none_is_refused_where_it_is_wrong(message, field):
    with pytest.raises(SuiteInvalid) as caught:
        read_messages(1, [ASKED, message])

    assert caught.value.fields["field"] == f"messages[1]{field}"
    assert caught.value.fields["fix"]


def test_tools_are_taken_in_the_form_of_the_openai_api():
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"], "enum": [1]}, "b": True},
        "required": ["a"],
        "additionalProperties": False,
    }
    tools = [
        TOOL,
        {"type": "function", "function": {"name": "a.b"}},
        {"type": "function", "function": {"name": "g", "strict": True, "parameters": schema}},
    ]

    assert list(read_tools(1, tools)) == tools
    assert read_tools(1, []) == ()


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        ("f", ""),
        ({"function": FUNCTION}, ".type"),
        ({"type": "web_search"}, ".type"),
        ({**TOOL, "cache": 1}, ".cache"),
        ({"type": "function", "function": "f"}, ".function"),
        ({"type": "function", "name": "f", "parameters": {}}, ".name"),
        ({"type": "function", "function": {}}, ".function.name"),
        ({"type": "function", "function": {"name": "x" * 201}}, ".function.name"),
        ({"type": "function", "function": {**FUNCTION, "description": 4}}, ".function.description"),
        ({"type": "function", "function": {**FUNCTION, "strict": "yes"}}, ".function.strict"),
        ({"type": "function", "function": {**FUNCTION, "returns": {}}}, ".function.returns"),
        ({"type": "function", "function": {"name": "g", "parameters": []}}, ".function.parameters"),
        (
            {"type": "function", "function": {"name": "g", "parameters": {"type": "dict"}}},
            ".function.parameters.type",
        ),
        (
            {"type": "function", "function": {"name": "g", "parameters": {"properties": []}}},
            ".function.parameters.properties",
        ),
        (
            {"type": "function", "function": {"name": "g", "parameters": {"properties": {"a": 1}}}},
            ".function.parameters.properties.a",
        ),
        (
            {"type": "function", "function": {"name": "g", "parameters": {"required": "a"}}},
            ".function.parameters.required",
        ),
        (TOOL, ".function.name"),
    ],
)
def test_a_tool_that_is_none_or_known_already_is_refused_where_it_is_wrong(tool, field):
    with pytest.raises(SuiteInvalid) as caught:
        read_tools(1, [TOOL, tool])

    assert caught.value.fields["field"] == f"tools[1]{field}"
    assert caught.value.fields["fix"]


def test_nesting_is_limited_far_below_what_python_can_read():
    def nested(depth):
        return '{"a":' * depth + "1" + "}" * depth

    assert read_object(1, nested(MAX_DEPTH))
    with pytest.raises(SuiteInvalid) as caught:
        read_object(1, nested(MAX_DEPTH + 1))
    assert "nested deeper" in caught.value.fields["problem"]
