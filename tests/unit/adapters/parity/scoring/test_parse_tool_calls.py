import json

import pytest

from adapters.parity.scoring import ParsedCall, parse_tool_calls

F = ParsedCall("f", {"a": 1})
G = ParsedCall("g", {"b": "x"})
F_JSON = '{"name": "f", "arguments": {"a": 1}}'
G_JSON = '{"name": "g", "arguments": {"b": "x"}}'
F_LLAMA = '{"name": "f", "parameters": {"a": 1}}'
G_LLAMA = '{"name": "g", "parameters": {"b": "x"}}'

WRITTEN = {
    "raw object": (F_JSON, "json", (F,)),
    "raw array": (f"[{F_JSON}, {G_LLAMA}]", "json", (F, G)),
    "openai object as text": (
        '{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}',
        "json",
        (F,),
    ),
    "wrapped": (f'{{"tool_calls": [{F_JSON}]}}', "json", (F,)),
    "hermes": (f"<tool_call>\n{F_JSON}\n</tool_call>", "hermes", (F,)),
    "two hermes": (
        f"<tool_call>{F_JSON}</tool_call>\n<tool_call>{G_JSON}</tool_call>",
        "hermes",
        (F, G),
    ),
    "hermes list": (f"<tool_call>[{F_JSON}, {G_JSON}]</tool_call>", "hermes", (F, G)),
    "hermes stopped at its end": (f"<tool_call>{F_JSON}", "hermes", (F,)),
    "llama tag": (f"<|python_tag|>{F_LLAMA}<|eom_id|>", "llama", (F,)),
    "llama several": (f"<|python_tag|>{F_LLAMA}; {G_LLAMA}", "llama", (F, G)),
    "llama without tag": (f"{F_LLAMA}; {G_LLAMA}", "llama", (F, G)),
    "llama built-in tool": ('<|python_tag|>g.call(b="x")', "llama", (G,)),
    "llama 4": ('<|python_start|>[f(a=1), g(b="x")]<|python_end|>', "llama", (F, G)),
    "pythonic": ('[f(a=1), g(b="x")]', "pythonic", (F, G)),
    "mistral": (f"[TOOL_CALLS] [{F_JSON}, {G_JSON}]", "mistral", (F, G)),
    "mistral by name": (
        '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{"b": "x"}',
        "mistral",
        (F, G),
    ),
    "mistral with id": ('[TOOL_CALLS]f[CALL_ID]9aB3[ARGS]{"a": 1}', "mistral", (F,)),
    "fence": (f"```json\n{F_JSON}\n```", "json_fence", (F,)),
    "fence without language": (f"```\n[{F_JSON}, {G_JSON}]\n```", "json_fence", (F, G)),
}


@pytest.mark.parametrize(("text", "syntax", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_every_family_s_way_of_calling_is_read(text, syntax, calls):
    answer = parse_tool_calls(text)

    assert (answer.calls, answer.syntax, answer.problem) == (calls, syntax, None)
    assert answer.content == ""


@pytest.mark.parametrize(("text", "syntax", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_words_before_the_calls_are_content(text, syntax, calls):
    answer = parse_tool_calls(f"I look it up.\n{text}")

    assert (answer.calls, answer.syntax, answer.problem) == (calls, syntax, None)
    assert answer.content == "I look it up."


def test_words_behind_the_calls_are_content_too():
    answer = parse_tool_calls(f"One.\n```json\n{F_JSON}\n```\nTwo.")

    assert answer.calls == (F,)
    assert answer.content == "One.\nTwo."


def test_calls_of_the_response_come_before_those_of_the_text():
    response = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "g", "arguments": {"b": "x"}}},
        {"type": "function", "function": {"name": "h", "arguments": ""}},
    ]

    answer = parse_tool_calls(F_JSON, tool_calls=response)

    assert answer.calls == (F, G, ParsedCall("h", {}))
    assert (answer.syntax, answer.problem, answer.content) == ("openai", None, F_JSON)


def test_an_empty_list_of_calls_leaves_the_text_to_be_read():
    assert parse_tool_calls(F_JSON, tool_calls=[]).calls == (F,)


BROKEN = {
    "cut in hermes": '<tool_call>{"name": "f", "argum',
    "cut raw": '{"name": "f", "arguments": {"a": 1',
    "cut pythonic": "[f(a=1",
    "cut mistral": '[TOOL_CALLS][{"name": "f"',
    "cut mistral arguments": '[TOOL_CALLS]f[ARGS]{"a": 1',
    "nothing behind the mark": "[TOOL_CALLS]",
    "nothing behind the tag": "<|python_tag|>",
    "no name": '<tool_call>{"arguments": {}}</tool_call>',
    "a list of lists": "<tool_call>[[]]</tool_call>",
    "single quotes": "<tool_call>{'name': 'f'}</tool_call>",
    "NaN": '{"name": "f", "arguments": {"a": NaN}}',
    "a number beyond doubles": '{"name": "f", "arguments": {"a": 1e999}}',
    "arguments that are a list": '{"name": "f", "arguments": [1]}',
    "arguments that are broken text": '{"name": "f", "arguments": "{a"}',
    "no keyword": "[f(1)]",
    "an expression": "[f(a=__import__('os').getcwd())]",
    "keyword twice": "[f(a=1, a=2)]",
    "bytes": '[f(a=b"x")]',
    "nested too deeply": '{"name": "f", "arguments": {"a": ' + "[" * 70 + "]" * 70 + "}}",
    "nested beyond Python": '{"name": "f", "arguments": {"a": ' + "[" * 5000 + "]" * 5000 + "}}",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_half_or_malformed_call_is_a_problem_and_no_call(text):
    answer = parse_tool_calls(text)

    assert answer.calls == ()
    assert answer.problem is not None
    assert answer.problem.startswith("the call ")
    assert answer.syntax is not None


def test_what_the_response_calls_wrongly_is_a_problem_too():
    answer = parse_tool_calls("", tool_calls=[{"function": {"name": "f", "arguments": "{"}}])

    assert (answer.calls, answer.syntax) == ((), "openai")
    assert answer.problem == "the call has arguments of which the text ends too early"


def test_good_calls_before_a_broken_one_are_kept():
    answer = parse_tool_calls(f'<tool_call>{F_JSON}</tool_call><tool_call>{{"name": "g", "ar')

    assert answer.calls == (F,)
    assert answer.problem == "the call ends too early"


PROSE = {
    "words": "The weather is fine [1], see {x} and f(a=1).",
    "a person": '{"name": "Anna"}',
    "data in a fence": '```json\n{"city": "Rome"}\n```',
    "a link": "[see f(x)] for more",
    "half of some JSON": '{"city": "Rome", "days": [1, 2',
    "nothing": "",
}


@pytest.mark.parametrize("text", PROSE.values(), ids=PROSE)
def test_prose_and_data_are_no_calls(text):
    answer = parse_tool_calls(text)

    assert (answer.calls, answer.syntax, answer.problem) == ((), None, None)
    assert answer.content == text


def test_what_is_only_thought_is_not_called():
    assert parse_tool_calls(f"<think>maybe {F_JSON}</think>No.").content == "No."
    assert parse_tool_calls(f"<think>maybe {F_JSON}").calls == ()
    assert parse_tool_calls(f"maybe {F_JSON}</think>{G_JSON}").calls == (G,)


def test_the_outer_form_wins_over_calls_inside_arguments():
    code = {"name": "run", "arguments": {"code": "[f(a=1)]"}}

    assert parse_tool_calls(json.dumps(code)).calls == (ParsedCall("run", {"code": "[f(a=1)]"}),)
    assert parse_tool_calls(f"[run(call={F_JSON})]").calls == (
        ParsedCall("run", {"call": {"name": "f", "arguments": {"a": 1}}}),
    )


def test_pythonic_values_become_json_values():
    answer = parse_tool_calls(
        "[m.f(a=-1.5, b=[1, (2, 3)], c={'k': None}, d=True, e=false, s='it\\'s ] fine')]"
    )

    assert answer.calls == (
        ParsedCall(
            "m.f",
            {
                "a": -1.5,
                "b": [1, [2, 3]],
                "c": {"k": None},
                "d": True,
                "e": False,
                "s": "it's ] fine",
            },
        ),
    )


def test_calls_are_read_without_the_special_tokens_that_marked_them():
    named = parse_tool_calls('f{"a": 1}\ng{"b": "x"}')
    built_in = parse_tool_calls('g.call(b="x")')

    assert (named.calls, named.syntax) == ((F, G), "mistral")
    assert (built_in.calls, built_in.syntax) == ((G,), "llama")
    assert parse_tool_calls('f{"a": 1}g{"b":').calls == (F,)
    assert parse_tool_calls('f{"a": 1}g{"b":').problem == "the call ends too early"


@pytest.mark.parametrize(
    "text", ['json{"a": 1}', 'f{"a": 1} is code', 'see f{"a": 1}', "f{x}", "do.call(it), please()"]
)
def test_what_only_begins_like_a_bare_call_is_text(text):
    assert parse_tool_calls(text).calls == ()
    assert parse_tool_calls(text).problem is None
