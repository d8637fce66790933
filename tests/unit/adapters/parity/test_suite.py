import json

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity import suite as suite_module
from adapters.parity.suite import (
    Case,
    build_suite,
    builtin_probe,
    format_suite,
    parse_pool,
    parse_suite,
    scan_suite,
)

CHAT = {"id": "a", "messages": [{"role": "user", "content": "hi"}]}
PLAIN = {"id": "b", "prompt": "once"}
DIGEST = "sha256:f00a2c297c2b7e1740a57e93b0f57c02d4f205ec6b129e943af19d51fde6d90f"


def lines(*cases):
    return "\n".join(json.dumps(case) for case in cases).encode()


def refused(data):
    with pytest.raises(SuiteInvalid) as caught:
        parse_suite(data)
    return caught.value.fields


def test_a_suite_is_read_in_order_and_blank_lines_are_skipped():
    suite = parse_suite(b"\n" + lines(CHAT) + b"\n\n" + lines(PLAIN) + b"\n")

    assert [case.id for case in suite.cases] == ["a", "b"]
    assert suite.cases[1] == Case(id="b", prompt="once")
    assert suite.to_prompts()[0].messages == CHAT["messages"]
    assert "2 cases, 0 of them" in suite.proves


def test_every_field_is_kept():
    tools = [{"type": "function", "function": {"name": "f"}}]
    full = {**CHAT, "tools": tools, "segment": "s", "max_tokens": 7, "expect": {"text": "x"}}

    case = parse_suite(lines(full)).cases[0]

    assert case.to_json() == full
    assert case.to_prompt().tools == tools


def test_a_message_may_hold_tool_calls_and_separators_of_unicode():
    messages = [{"role": "assistant", "tool_calls": []}, {"role": "user", "content": "a\u2028b"}]
    text = json.dumps({"id": "a", "messages": messages}, ensure_ascii=False)

    assert parse_suite(text.encode()).cases[0].messages[1]["content"] == "a\u2028b"


def test_the_digest_is_of_content_and_not_of_spelling():
    first = parse_suite(b'{"id":"b","prompt":"once"}')
    second = parse_suite(b'\xef\xbb\xbf{ "prompt" : "\\u006fnce", "id": "b", "segment": "all" }')

    assert first.digest == second.digest
    assert first.digest != parse_suite(lines({**PLAIN, "max_tokens": 5})).digest
    assert parse_suite(lines(CHAT, PLAIN)).digest != parse_suite(lines(PLAIN, CHAT)).digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": 4}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": "\ud800"}, ""),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, ""),
        ({"prompt": "both"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"tools": "f"}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"segment": ""}, "segment"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 9000}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"expect": {}}, "expect"),
        ({"expect": {"text": "x", "json": {}}}, "expect"),
        ({"expect": "x" * 100}, "expect"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_case_that_is_none_is_refused_with_line_field_and_fix(change, field):
    fields = refused(lines(PLAIN, {**CHAT, **change}))

    assert (fields["line"], fields["field"]) == (2, field)
    assert fields["problem"]
    assert fields["fix"]


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b"", 0, "no case"),
        (b"\n \n", 0, "no case"),
        (b"\xff", 0, "not UTF-8"),
        (b"{", 1, "not JSON"),
        (b'{"id":"a","prompt":NaN}', 1, "NaN is not JSON"),
        (b'{"id":"a","prompt":"x","max_tokens":1e999}', 1, "beyond a double"),
        (b'{"id":"a","prompt":"\\ud800"}', 1, "not Unicode"),
        (b'{"id":"a","\\udfff":"x"}', 1, "not Unicode"),
        (b"[1]", 1, "not an object"),
        (lines(PLAIN, CHAT, PLAIN), 3, "already used in line 1"),
        (b'{"id":"a"}', 1, "not exactly one"),
        (lines({**PLAIN, "tools": []}), 1, "tools with a plain prompt"),
        (b"[" * 100_000, 1, "not JSON"),
    ],
)
def test_what_is_no_suite_is_refused(data, line, problem):
    fields = refused(data)

    assert fields["line"] == line
    assert problem in fields["problem"]


def test_sizes_are_limited(monkeypatch):
    monkeypatch.setattr(suite_module, "MAX_CASES", 1)
    assert "more than 1 cases" in refused(lines(CHAT, PLAIN))["problem"]

    monkeypatch.setattr(suite_module, "MAX_SUITE_BYTES", 10)
    assert "larger" in refused(lines(CHAT))["problem"]


def test_the_builtin_probe_is_varied_and_says_what_it_proves():
    suite = builtin_probe()

    assert len(suite.cases) == 24
    assert len({case.segment for case in suite.cases}) >= 7
    assert any(case.tools for case in suite.cases)
    assert any(case.prompt for case in suite.cases)
    assert suite.is_builtin
    assert "numeric parity only" in suite.proves


def test_digests_of_suites_that_exist_do_not_change():
    tools = [{"type": "function", "function": {"name": "f"}}]
    gold = {"tool_calls": [{"name": "f", "arguments": {"é": 1.5}}]}
    full = {**CHAT, "tools": tools, "segment": "s", "max_tokens": 7, "expect": gold}

    assert builtin_probe().digest.startswith("sha256:776d27c1489227cb")
    assert parse_suite(lines(full, PLAIN)).digest == DIGEST


def test_a_scan_names_every_line_and_every_field_that_is_wrong():
    bad = {"id": "c", "messages": [], "max_tokens": 0, "expect": {"text": ""}, "colour": 1}

    scan = scan_suite(lines(CHAT, bad) + b"\n{\n" + lines(PLAIN, CHAT))

    found = [(error.fields["line"], error.fields["field"]) for error in scan.errors]
    assert found == [
        (2, "colour"), (2, "messages"), (2, "max_tokens"), (2, "expect.text"), (3, ""), (5, "id"),
    ]  # fmt: skip
    assert [case.id for case in scan.cases] == ["a", "b"]


def test_a_scan_ends_after_enough_errors_and_takes_a_valid_suite_whole():
    assert len(scan_suite(b"{\n" * 500).errors) == 100
    assert len(scan_suite(lines({"prompt": 1, "max_tokens": 0}), max_errors=2).errors) == 2
    assert scan_suite(lines(CHAT, PLAIN)).cases == parse_suite(lines(CHAT, PLAIN)).cases


def test_an_id_used_in_a_line_that_is_wrong_counts_as_used():
    scan = scan_suite(lines({**PLAIN, "max_tokens": 0}, PLAIN))

    assert [error.fields["field"] for error in scan.errors] == ["max_tokens", "id"]
    assert scan.cases == ()


def test_a_suite_of_objects_is_checked_with_the_lines_that_they_come_from():
    assert build_suite([(7, CHAT), (9, PLAIN)]).cases == parse_suite(lines(CHAT, PLAIN)).cases
    with pytest.raises(SuiteInvalid) as caught:
        build_suite([(7, CHAT), (9, CHAT)])
    assert (caught.value.fields["line"], caught.value.fields["field"]) == (9, "id")


def test_a_pool_may_be_larger_than_a_suite(monkeypatch):
    monkeypatch.setattr(suite_module, "MAX_CASES", 1)
    monkeypatch.setattr(suite_module, "MAX_SUITE_BYTES", 10)

    assert len(parse_pool(lines(CHAT, PLAIN)).cases) == 2


def test_what_is_written_is_read_again():
    suite = parse_suite(lines({**CHAT, "segment": "s", "expect": {"json": [1, "é\u2028"]}}, PLAIN))

    again = parse_suite(format_suite(suite))

    assert again == suite
    assert again.digest == suite.digest


def recovery(*messages):
    return Case(id="a", messages=({"role": "user", "content": "go"}, *messages)).is_recovery


@pytest.mark.parametrize(
    ("content", "is_error"),
    [
        ('{"error": "no such city"}', True),
        ('{"error": {"code": 404}}', True),
        ("Error: timeout", True),
        ("  error", True),
        ([{"type": "text", "text": "ERROR 5"}], True),
        ('{"error": null, "result": 4}', False),
        ('{"error": ""}', False),
        ('{"errors": 3}', False),
        ("18 degrees, no error", False),
        ('["error"]', False),
        ("[" * 100_000, False),
    ],
)
def test_a_conversation_that_ends_with_a_failed_tool_asks_for_recovery(content, is_error):
    calls = {"role": "assistant", "tool_calls": []}

    assert recovery(calls, {"role": "tool", "content": content}) is is_error


def test_recovery_is_asked_by_any_of_the_last_results_and_not_by_earlier_ones():
    failed, fine = {"role": "tool", "content": "error"}, {"role": "tool", "content": "18"}

    assert recovery(failed, fine)
    assert not recovery(failed, {"role": "assistant", "content": "Sorry."}, fine)
    assert not Case(id="a", prompt="error").is_recovery
