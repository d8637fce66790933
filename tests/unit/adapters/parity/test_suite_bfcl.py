"""The leaderboard's files become suites that allow what the leaderboard allows."""

import json
from functools import cache

import pytest

from adapters.errors import SuiteInvalid
from adapters.parity.suite import format_suite, parse_suite
from adapters.parity.suite_import import import_bfcl
from adapters.parity.suite_review import review_suite
from bench.fixtures.cache import package_file

SCHEMA = {
    "type": "dict",
    "properties": {
        "n": {"type": "integer"},
        "unit": {"type": "string"},
        "is_on": {"type": "boolean", "optional": True},
        "box": {"type": "dict", "properties": {"w": {"type": "float"}}},
        "stops": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
        "legs": {"type": "array", "items": {"type": "dict"}},
        "free": {"type": "any"},
        "odd": {"type": ""},
    },
    "required": ["n"],
}


def question(**changes):
    row = {
        "id": "simple_python_0",
        "question": [[{"role": "user", "content": "go"}]],
        "function": [{"name": "a.f", "description": "d", "parameters": SCHEMA}],
    }
    return {**row, **changes}


def encode(*rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def answer(**choices):
    return encode({"id": "simple_python_0", "ground_truth": [{"a.f": choices}]})


def gold(**choices):
    (case,) = import_bfcl(encode(question()), answer(**choices)).cases
    (call,) = case.expect["tool_calls"]
    return call


def test_types_become_those_of_json_schema_and_names_keep_their_dots():
    (case,) = import_bfcl(encode(question()), None).cases

    function = case.tools[0]["function"]
    properties = function["parameters"]["properties"]
    assert function["name"] == "a.f"
    assert function["parameters"]["type"] == "object"
    assert properties["is_on"] == {"type": "boolean"}
    assert properties["box"] == {"type": "object", "properties": {"w": {"type": "number"}}}
    assert properties["stops"]["items"] == {"type": "array", "items": {"type": "number"}}
    assert [properties["free"], properties["odd"]] == [{"type": "string"}, {}]
    assert case.expect is None


def test_the_first_allowed_value_is_the_argument_and_the_others_are_alternatives():
    assert gold(n=[5, 6, 5, 5.0, True]) == {
        "name": "a.f",
        "arguments": {"n": 5},
        "alternatives": {"n": [6, 5.0, True]},
    }


def test_the_empty_text_lets_an_argument_be_left_out_unless_the_schema_requires_it():
    assert gold(n=[1], is_on=["", True]) == {
        "name": "a.f",
        "arguments": {"n": 1, "is_on": True},
        "optional": ["is_on"],
    }
    assert gold(n=[1, ""]) == {"name": "a.f", "arguments": {"n": 1}}


def test_for_a_text_the_empty_text_is_a_right_value_too():
    call = gold(n=[1], unit=["m", ""])

    assert call["arguments"] == {"n": 1, "unit": "m"}
    assert call["alternatives"] == {"unit": [""]}
    assert call["optional"] == ["unit"]
    assert gold(n=[1], unit=[""]) == {
        "name": "a.f",
        "arguments": {"n": 1},
        "alternatives": {"unit": [""]},
        "optional": ["unit"],
    }


def test_an_argument_without_a_right_value_may_not_be_given():
    assert gold(n=[1], is_on=[""], stops=[], unknown=["", 3]) == {
        "name": "a.f",
        "arguments": {"n": 1},
    }


def test_objects_of_choices_are_written_out_each_as_a_whole():
    call = gold(n=[1], box=[{"w": [1, 2], "h": ["", 3]}, {"w": [9], "deep": [{"k": [4]}]}])

    whole = [call["arguments"]["box"], *call["alternatives"]["box"]]
    assert whole == [
        {"w": 1}, {"w": 1, "h": 3}, {"w": 2}, {"w": 2, "h": 3}, {"w": 9, "deep": {"k": [4]}},
    ]  # fmt: skip


def test_lists_of_objects_are_written_out_and_plain_lists_are_values():
    call = gold(n=[1], legs=[[{"to": ["A", "B"]}, {"to": ["C"]}]], stops=[[[1, 2]], []])

    assert call["arguments"]["legs"] == [{"to": "A"}, {"to": "C"}]
    assert call["alternatives"]["legs"] == [[{"to": "B"}, {"to": "C"}]]
    assert call["arguments"]["stops"] == [[1, 2]]
    assert call["alternatives"]["stops"] == [[]]


def test_irrelevance_means_that_no_tool_may_be_called():
    (case,) = import_bfcl(encode(question(id="live_irrelevance_3-0-1")), None).cases

    assert case.expect == {"tool_calls": []}
    assert case.segment == "live_irrelevance"


def test_segment_and_limit_may_be_given():
    suite = import_bfcl(encode(question()), None, segment="s", max_tokens=7)

    assert (suite.cases[0].segment, suite.cases[0].max_tokens) == ("s", 7)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": 4}, "id"),
        ({"question": [[{"role": "user", "content": "a"}]] * 2}, "question"),
        ({"question": []}, "question"),
        ({"question": ["go"]}, "question"),
        ({"question": [[{"role": "king", "content": "a"}]]}, "messages[0].role"),
        ({"function": None}, "function"),
        ({"function": ["f"]}, "function"),
        ({"function": [{"name": ""}]}, "tools[0].function.name"),
        (
            {"function": [{"name": "f", "parameters": {"type": "Qubit"}}]},
            "function[0].parameters.type",
        ),
    ],
)
def test_a_question_that_cannot_be_a_case_is_refused_by_line_and_field(change, field):
    with pytest.raises(SuiteInvalid) as caught:
        import_bfcl(encode(question(id="x_0"), question(**change)), None)

    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, field)
    assert caught.value.fields["fix"]


@pytest.mark.parametrize(
    ("truth", "field"),
    [
        (None, "ground_truth"),
        ([["cd(folder='x')"]], "ground_truth[0]"),
        ([{"a.f": {}, "b": {}}], "ground_truth[0]"),
        ([{"a.f": []}], "ground_truth[0]"),
        ([{"a_f": {}}], "ground_truth[0]"),
        ([{"a.f": {"n": 5}}], "ground_truth[0].a.f.n"),
        ([{"a.f": {"box": [{str(i): [1, 2] for i in range(10)}]}}], "ground_truth[0].a.f.box"),
    ],
)
def test_an_answer_that_is_none_is_refused_by_its_own_line(truth, field):
    answers = encode({"id": "other", "ground_truth": []}, {"id": "simple_python_0"})
    answers = answers.replace(b'_0"', b'_0", "ground_truth": ' + json.dumps(truth).encode())

    with pytest.raises(SuiteInvalid) as caught:
        import_bfcl(encode(question()), answers)

    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, field)


def test_an_unreadable_line_of_the_answers_is_told_from_one_of_the_questions():
    with pytest.raises(SuiteInvalid) as caught:
        import_bfcl(encode(question()), b"{}\n{")

    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, "ground_truth")


def test_a_question_without_an_answer_is_refused_where_answers_are_given():
    with pytest.raises(SuiteInvalid) as caught:
        import_bfcl(encode(question(id="simple_python_9")), answer(n=[1]))

    assert caught.value.fields["field"] == "id"


@cache
def real(category, *, has_answers=True):
    def read(folder):
        path, _ = package_file("bfcl-eval", f"bfcl_eval/data/{folder}BFCL_v4_{category}.json")
        return path.read_bytes()

    return import_bfcl(read(""), read("possible_answer/") if has_answers else None)


@pytest.mark.parametrize(
    ("category", "n_cases", "calls"),
    [
        ("simple_python", 400, {1}),
        ("multiple", 200, {1}),
        ("parallel", 200, {2, 3, 4, 5, 6, 8}),
        ("irrelevance", 240, {0}),
    ],
)
def test_the_real_files_become_suites_without_a_note(category, n_cases, calls):
    suite = real(category, has_answers=category != "irrelevance")

    assert len(suite.cases) == n_cases
    assert {case.segment for case in suite.cases} == {category}
    assert {len(case.expect["tool_calls"]) for case in suite.cases} <= calls
    assert review_suite(suite) == ()
    assert parse_suite(format_suite(suite)) == suite


def test_a_real_case_says_what_the_leaderboard_allows():
    case = real("simple_python").cases[0]

    assert case.id == "simple_python_0"
    assert case.expect == {
        "tool_calls": [
            {
                "name": "calculate_triangle_area",
                "arguments": {"base": 10, "height": 5, "unit": "units"},
                "alternatives": {"unit": [""]},
                "optional": ["unit"],
            }
        ]
    }
