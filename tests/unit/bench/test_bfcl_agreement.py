"""A sample of the leaderboard's questions, scored both ways; the scenario does all of them."""

import pytest

pytest.importorskip("bfcl_eval", reason="the leaderboard's package is not installed")

from bench.bfcl.leaderboard import CATEGORIES, leaderboard_passes, load_questions
from bench.bfcl.mutations import Answer, answers_to
from bench.bfcl.reasons import REASONS, UNEXPLAINED, explain
from bench.scenarios.bfcl_agreement import compare_verdicts, to_json

EVERY = 20


@pytest.fixture(scope="module")
def questions():
    return {name: load_questions(name)[::EVERY] for name in CATEGORIES}


def test_every_disagreement_with_the_leaderboard_has_a_known_reason(questions):
    tally = compare_verdicts(question for some in questions.values() for question in some)

    assert tally.unexplained == []
    assert set(tally.by_reason) <= set(REASONS)
    assert tally.n.total() > 1500
    assert 0.7 < tally.agreement < 1
    assert to_json(tally)["changes"]["gold"]["agreed"] == to_json(tally)["changes"]["gold"]["n"]


def test_both_pass_every_gold_answer(questions):
    for question in (question for some in questions.values() for question in some):
        first = next(iter(answers_to(question)))
        assert leaderboard_passes(question, first.calls), question.case.id


def test_a_mistake_of_ours_would_not_be_explained(questions):
    question = questions["simple_python"][0]
    gold = question.case.expect["tool_calls"][0]
    function, argument = gold["name"], next(iter(gold["arguments"]))
    arguments = {**gold["arguments"], argument: "quite wrong"}
    wrong = Answer("wrong value", [{function: arguments}], (function, argument))

    assert explain(question, wrong, theirs=True) == UNEXPLAINED
    assert explain(question, wrong, theirs=False) == UNEXPLAINED
    assert explain(question, Answer("no call", []), theirs=True) == UNEXPLAINED
