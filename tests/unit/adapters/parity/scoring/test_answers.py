import json

from adapters.parity.scoring import AnswerEquality, compare_answers
from tests.builders.scored_cases import case_with, gold_call, written

CASE = case_with(None)


def test_equal_letters_are_exact():
    assert compare_answers(CASE, "a  b", "a  b") is AnswerEquality.EXACT


def test_white_space_alone_is_no_difference():
    assert compare_answers(CASE, "a  b\n", "a b") is AnswerEquality.EQUIVALENT


def test_the_same_calls_are_equivalent_in_any_order_and_under_the_tools_schemas():
    first = written(gold_call(city="Rome", unit="celsius", days="3"), gold_call(city="Oslo"))
    second = "Let me see. " + written(
        gold_call(city="Oslo", note=None), gold_call(days=3.0, unit="Celsius", city="Rome ")
    )

    assert compare_answers(CASE, first, second) is AnswerEquality.EQUIVALENT


def test_other_arguments_or_one_call_more_are_different():
    rome, oslo = gold_call(city="Rome"), gold_call(city="Oslo")

    assert compare_answers(CASE, written(rome), written(oslo)) is AnswerEquality.DIFFERENT
    assert compare_answers(CASE, written(rome), written(rome, rome)) is AnswerEquality.DIFFERENT


def test_an_answer_with_a_broken_call_is_only_equal_to_itself():
    broken = written(gold_call(city="Rome")) + '<tool_call>{"name"'

    assert (
        compare_answers(CASE, broken, written(gold_call(city="Rome"))) is AnswerEquality.DIFFERENT
    )


def test_the_same_json_is_equivalent():
    value = {"a": 1, "day": "March 4, 2025"}
    same = '```json\n{"day": "2025-03-04", "a": 1.0}\n```'

    assert compare_answers(CASE, json.dumps(value), same) is AnswerEquality.EQUIVALENT
    assert compare_answers(CASE, json.dumps(value), '{"a": 1}') is AnswerEquality.DIFFERENT


def test_json_within_other_words_does_not_make_them_equal():
    assert compare_answers(CASE, 'Yes: {"a": 1}', 'No: {"a": 1}') is AnswerEquality.DIFFERENT
