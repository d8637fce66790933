"""Each note is given for its own weakness, names the cases, and stays away from a good suite."""

import json

from adapters.parity.suite import parse_suite
from adapters.parity.suite_review import SuiteNoteCode, review_suite

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "free"}},
]


def case(number, **changes):
    messages = [{"role": "user", "content": f"question {number}"}]
    return {"id": f"c{number}", "messages": messages, "expect": {"text": "yes"}, **changes}


def review(*changed, n_cases=20):
    """Notes on a suite of `n_cases`, the first of which are the given ones."""
    cases = [*changed, *(case(i) for i in range(len(changed), n_cases))]
    return review_suite(parse_suite("\n".join(json.dumps(item) for item in cases).encode()))


def only(notes, code):
    (note,) = notes
    assert note.code is code
    assert note.text
    assert note.fix
    assert note.to_json()["code"] == code.value
    return note


def test_a_good_suite_gives_no_note():
    assert review() == ()


def test_a_suite_without_gold_says_that_the_task_is_not_gated():
    without = [{k: v for k, v in case(i).items() if k != "expect"} for i in range(20)]

    only(review(*without), SuiteNoteCode.NO_GOLD)
    assert review(*without[:19]) == ()


def test_a_segment_below_twenty_cases_is_named():
    note = only(review(n_cases=19), SuiteNoteCode.SMALL_SEGMENT)
    assert note.segment == "all"

    notes = review(case(0, segment="rare"), case(1, segment="odd"), n_cases=30)
    assert [note.segment for note in notes] == ["rare", "odd"]


def test_a_limit_below_the_gold_answer_is_found_with_the_worst_case_first():
    notes = review(
        case(0, expect={"text": "x" * 200}),
        case(1, expect={"text": "x" * 4000}),
        case(2, expect={"text": "x" * 128}),
        case(3, expect={"any_of": [{"text": "x" * 4000}, {"text": "x"}]}),
    )

    note = only(notes, SuiteNoteCode.MAX_TOKENS_BELOW_GOLD)
    assert note.case_ids == ("c0", "c1")
    assert "'c1' has 32 and needs about 1000" in note.text


def test_the_same_question_twice_is_found_and_other_tools_make_another_question():
    asked = case(7)["messages"]
    notes = review(
        case(0, messages=asked),
        case(1, messages=asked, tools=TOOLS),
        case(2, messages=asked),
        n_cases=25,
    )

    note = only(notes, SuiteNoteCode.DUPLICATE_PROMPT)
    assert note.case_ids == ("c0", "c2", "c7")
    assert note.text.startswith("2 cases of 25")


def test_a_gold_argument_that_the_tool_does_not_have_is_named():
    def gold(name, **arguments):
        return {"tool_calls": [{"name": name, "arguments": arguments}]}

    notes = review(
        case(0, tools=TOOLS, expect=gold("f", a=1)),
        case(1, tools=TOOLS, expect={"any_of": [gold("f", b=1), {"text": "x"}]}),
        case(2, tools=TOOLS, expect=gold("free", z=1)),
        case(3, expect=gold("f", z=1)),
    )

    note = only(notes, SuiteNoteCode.UNKNOWN_ARGUMENT)
    assert note.case_ids == ("c1",)
    assert "'b' in 'c1'" in note.text


def test_a_conversation_that_is_answered_already_is_found():
    answered = [*case(0)["messages"], {"role": "assistant", "content": "yes"}]

    note = only(review(case(0, messages=answered)), SuiteNoteCode.ENDS_WITH_ASSISTANT)
    assert note.case_ids == ("c0",)
