import json

import pytest

from adapters.parity.scoring import score_answer
from tests.builders.scored_cases import calls_case, case_with, gold_call, written

ROME, OSLO = gold_call(city="Rome"), gold_call(city="Oslo")
TABLE = gold_call("book_table", at="8 pm", guests=4)


def scored(expect, text, **more):
    return score_answer(case_with(expect), text, **more)


def test_a_case_without_gold_has_no_score():
    assert score_answer(case_with(None), "anything") is None


def test_the_right_call_passes():
    score = score_answer(calls_case(ROME), written(ROME))

    assert score.to_json() == {
        "case_id": "c",
        "kind": "tool_calls",
        "is_pass": True,
        "score": 1.0,
        "tool_selection": 1.0,
        "argument_exact": True,
        "argument_f1": 1.0,
        "n_fields": 1,
        "n_hallucinated": 0,
        "recovery": None,
        "trajectory_delta": 0,
        "detail": "",
    }


def test_calls_that_the_engine_has_parsed_are_scored():
    response = [{"function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}]

    assert score_answer(calls_case(ROME), "", tool_calls=response).is_pass


def test_parallel_calls_pass_in_any_order():
    case = calls_case(ROME, TABLE, OSLO)

    assert score_answer(case, written(OSLO, ROME, TABLE)).is_pass


def test_a_wrong_argument_keeps_the_selection():
    score = score_answer(calls_case(TABLE), written(gold_call("book_table", at="8 pm", guests=5)))

    assert (score.is_pass, score.tool_selection, score.argument_exact) == (False, 1.0, False)
    assert score.score == score.argument_f1 == pytest.approx(2 / 3)
    assert score.detail == "'book_table' wrong in guests"


def test_a_missing_call_takes_its_share_of_everything():
    score = score_answer(calls_case(ROME, OSLO), written(ROME))

    assert (score.tool_selection, score.argument_f1, score.argument_exact) == (0.5, 0.5, False)
    assert score.trajectory_delta == -1
    assert score.detail == "not called: 'get_weather'"


def test_a_call_too_much_fails_though_the_arguments_are_exact():
    score = score_answer(calls_case(ROME), written(ROME, TABLE))

    assert (score.is_pass, score.argument_exact) == (False, True)
    assert (score.tool_selection, score.argument_f1, score.trajectory_delta) == (0.5, 0.5, 1)
    assert score.n_hallucinated == 0


def test_a_broken_call_next_to_the_right_one_fails():
    score = score_answer(calls_case(ROME), written(ROME) + '<tool_call>{"name": "get')

    assert (score.is_pass, score.tool_selection, score.trajectory_delta) == (False, 0.5, 0)
    assert score.detail == "the call ends too early"


def test_words_instead_of_a_call_score_nothing():
    score = score_answer(calls_case(ROME), "It is fine.")

    assert (score.score, score.tool_selection, score.n_fields) == (0.0, 0.0, 0)


def test_no_call_may_be_made_where_the_gold_is_empty():
    quiet, loud = (score_answer(calls_case(), text) for text in ("No.", written(ROME)))

    assert (quiet.is_pass, quiet.score, quiet.trajectory_delta) == (True, 1.0, 0)
    assert (quiet.argument_exact, quiet.argument_f1, quiet.n_fields) == (None, None, None)
    assert (loud.is_pass, loud.tool_selection, loud.trajectory_delta) == (False, 0.0, 1)
    assert not score_answer(calls_case(), '<tool_call>{"name": "get').is_pass


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1.0, "city": "Rome"}',
        'Here:\n```json\n{"city": "Rome", "n": 1}\n```',
        '{"n":1,"city":"Rome"} ok?',
    ],
)
def test_a_json_answer_is_found_and_compared_after_normalisation(text):
    score = scored({"json": {"city": "Rome", "n": 1}}, text)

    assert (score.kind, score.is_pass, score.score) == ("json", True, 1.0)


def test_json_fields_have_credit_and_hallucinated_ones_have_none():
    score = scored({"json": {"a": 1, "b": 2}}, '{"a": 1, "c": 3}')

    assert (score.argument_exact, score.n_fields, score.n_hallucinated) == (False, 2, 1)
    assert score.score == score.argument_f1 == pytest.approx(1 / 3)
    assert (score.tool_selection, score.trajectory_delta) == (None, None)


def test_an_answer_without_json_scores_nothing_even_against_an_empty_gold():
    for gold in ({"a": 1}, {}, []):
        score = scored({"json": gold}, "none")
        assert (score.is_pass, score.score, score.detail) == (
            False,
            0.0,
            "the answer holds no JSON",
        )


def test_text_is_compared_after_white_space():
    assert scored({"text": "a b"}, " a\n b ").is_pass
    assert not scored({"text": "a b"}, "a b c").is_pass
    assert scored({"text": "a b", "match": "contains"}, "so a\tb.").is_pass
    assert not scored({"text": "a b", "match": "contains"}, "a c").is_pass
    assert scored({"text": "42"}, "<think>6 x 7</think>42").is_pass


def test_the_best_of_several_golds_counts():
    either = {"any_of": [{"text": "No"}, {"tool_calls": [ROME]}]}

    assert scored(either, written(ROME)).kind == "tool_calls"
    assert scored(either, "No").kind == "text"
    near = scored(either, written(gold_call(city="Rome", days=1)))
    assert (near.kind, near.is_pass) == ("tool_calls", False)


def test_a_detail_is_short_and_writable_whatever_the_answer_holds():
    names = {f"\ud800{index}": 1 for index in range(200)}
    score = score_answer(calls_case(ROME), written(gold_call(**names)))

    assert len(score.detail) <= 300
    json.dumps(score.to_json(), ensure_ascii=False).encode()
