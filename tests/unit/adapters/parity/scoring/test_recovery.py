import pytest

from adapters.parity.scoring import ParsedCall, score_answer
from adapters.parity.scoring.recovery import failed_calls
from tests.builders.scored_cases import after_error, calls_case, case_with, gold_call, written

FAILED = gold_call(city="Rmoe")
GOLD = gold_call(city="Rome")


def recovery(*calls, gold=GOLD, failed=FAILED):
    case = calls_case(gold, messages=after_error(failed=failed))
    return score_answer(case, written(*calls)).recovery


def test_the_right_call_recovers():
    assert recovery(GOLD) is True


def test_another_valid_call_recovers_though_it_is_not_the_gold():
    assert recovery(gold_call(city="Roma", days=2)) is True


@pytest.mark.parametrize(
    "call",
    [
        FAILED,
        gold_call(city=" Rmoe "),
        gold_call(days=3),
        gold_call(city=None),
        gold_call(city="Rome", mood="good"),
        gold_call("get_wether", city="Rome"),
    ],
)
def test_the_same_call_again_or_an_invalid_one_does_not_recover(call):
    assert recovery(call) is False


def test_no_call_and_a_broken_call_do_not_recover():
    case = calls_case(GOLD, messages=after_error(failed=FAILED))

    assert score_answer(case, "Sorry.").recovery is False
    assert score_answer(case, written(GOLD) + "<tool_call>{").recovery is False


def test_the_same_call_again_recovers_where_the_gold_says_so():
    assert recovery(FAILED, gold=FAILED) is True


def test_recovery_is_undefined_without_an_error_and_without_a_call_to_make():
    fine = after_error(failed=FAILED, error='{"temperature": 3}')

    assert score_answer(calls_case(GOLD), written(GOLD)).recovery is None
    assert score_answer(calls_case(GOLD, messages=fine), written(GOLD)).recovery is None
    told = case_with({"text": "Sorry"}, messages=after_error(failed=FAILED))
    assert score_answer(told, "Sorry").recovery is None


def test_only_the_calls_whose_results_are_errors_have_failed():
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": "1", "function": function}, {"id": "2", "function": {**function, "name": "g"}}]
    messages = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "fine"},
        {"role": "tool", "tool_call_id": "2", "content": "Error: no"},
    ]

    assert failed_calls(messages) == [ParsedCall("g", {})]
    assert failed_calls(messages[:2]) == []
    assert failed_calls([{**messages[2], "tool_call_id": None}]) == []
