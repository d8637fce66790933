"""docs/suites.md says what the code does: its examples are read, its tables are complete."""

import json
import re
from pathlib import Path

from adapters.parity.suite import DEFAULT_MAX_TOKENS, MAX_CASES, MAX_SUITE_BYTES, parse_suite
from adapters.parity.suite_expect import KINDS, choices_of, kind_of
from adapters.parity.suite_fields import MAX_DEPTH, MAX_TOKENS_LIMIT
from adapters.parity.suite_import import import_bfcl, import_openai_messages
from adapters.parity.suite_review import MIN_CASES_PER_SEGMENT, SuiteNoteCode, review_suite
from adapters.parity.suite_sample import FLOOR_PER_SEGMENT, read_traffic

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "suites.md").read_text()


def examples(kind):
    found = re.findall(rf"```jsonl {kind}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found
    return [text.encode() for text in found]


def test_every_suite_on_the_page_is_valid_and_asks_for_what_there_is():
    cases = [case for text in examples("suite") for case in parse_suite(text).cases]

    gold = [case.expect for case in cases if case.expect]
    assert {kind_of(expect) for expect in gold} == set(KINDS)
    assert [case.id for case in cases if case.is_recovery] == ["retry"]
    calls = [c for e in gold for choice in choices_of(e) for c in choice.get("tool_calls", ())]
    assert {key for call in calls for key in call} == {
        "name", "arguments", "alternatives", "optional",
    }  # fmt: skip
    for text in examples("suite"):
        notes = {note.code for note in review_suite(parse_suite(text))}
        assert notes <= {SuiteNoteCode.SMALL_SEGMENT}


def test_every_field_of_a_case_is_in_the_table():
    fields = {
        key for text in examples("suite") for line in text.splitlines() for key in json.loads(line)
    }

    assert fields == {"id", "messages", "prompt", "tools", "segment", "max_tokens", "expect"}
    assert all(f"| `{field}` |" in PAGE for field in fields)


def test_every_note_is_in_the_table():
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE, flags=re.MULTILINE)) >= {
        code.value for code in SuiteNoteCode
    }


def test_the_limits_on_the_page_are_those_of_the_code():
    assert f"at most {MAX_CASES:,} cases and {MAX_SUITE_BYTES >> 20} MiB" in PAGE
    assert f"1 to {MAX_TOKENS_LIMIT:,}, {DEFAULT_MAX_TOKENS} if left out" in PAGE
    assert f"nested {MAX_DEPTH} levels" in PAGE
    assert f"at least {FLOOR_PER_SEGMENT} (`--floor`)" in PAGE
    assert f"fewer than {MIN_CASES_PER_SEGMENT} cases" in PAGE


def test_the_importers_read_their_examples():
    (conversation,) = import_openai_messages(examples("openai")[0]).cases
    assert conversation.expect["tool_calls"][0]["arguments"] == {"city": "Lima"}

    (question,) = import_bfcl(examples("bfcl-question")[0], examples("bfcl-answer")[0]).cases
    assert question.segment == "simple_python"
    assert question.expect["tool_calls"][0]["optional"] == ["z"]

    (request,) = read_traffic(examples("traffic")[0]).cases
    assert request.max_tokens == 200
