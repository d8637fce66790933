"""The verdict with judges: what they prove, what they leave open, and what is only told."""

from __future__ import annotations

from dataclasses import replace

from adapters.parity.comparison import ComparisonRules
from adapters.parity.gate_plan import measure
from adapters.parity.judge_outcome import JudgeOutcome, Vote
from adapters.parity.judging import FreeTexts, Question, Seat, conclude_votes
from adapters.parity.policy import GatePolicy
from adapters.parity.verdict import Verdict, VerdictKind, decide
from tests.builders.judged_texts import agreed, pairs_of, seat, texts_of
from tests.builders.parity_cases import inputs

ASKS = GatePolicy(use_judges=True)
OTHER = {Vote.BEFORE: Vote.AFTER, Vote.AFTER: Vote.BEFORE}


def judge(outcome: JudgeOutcome | None, policy: GatePolicy = ASKS) -> Verdict:
    return decide(measure(inputs(judge=outcome)), policy)


def outcome_of(texts: FreeTexts, seats: list[Seat]) -> JudgeOutcome:
    return conclude_votes(texts, seats, rules=ComparisonRules())


def test_judges_that_prefer_the_answers_before_fail_a_version() -> None:
    pairs = pairs_of(n_before=12, n_after=1, n_tie=3)

    verdict = judge(outcome_of(texts_of(*pairs, n_equal=20), agreed(pairs)))

    assert verdict.kind is VerdictKind.FAIL
    (reason,) = verdict.reasons
    assert reason.code == "judges_prefer_before"
    assert "of 36 free-text cases judges prefer standalone in 12, the engine in 1" in reason.text
    assert "23 ties (20 equal answers), 0 dropped" in reason.text


def test_judges_that_see_no_loss_let_a_version_pass_and_are_told_of() -> None:
    pairs = pairs_of(n_before=3, n_after=9)

    verdict = judge(outcome_of(texts_of(*pairs), agreed(pairs)))

    assert verdict.kind is VerdictKind.PASS
    assert "judged" in [note.code for note in verdict.notes]


def test_too_few_configured_judges_leave_the_question_open() -> None:
    pairs = pairs_of(n_before=12)

    verdict = judge(outcome_of(texts_of(*pairs), agreed(pairs, n_judges=2)))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert [reason.code for reason in verdict.reasons] == ["judges_missing"]


def test_refused_judges_leave_the_question_open_with_their_figures() -> None:
    pairs = pairs_of(n_before=12)
    # Both answer for the first place: exchanging the order exchanges what they prefer.
    steady, *_ = agreed(pairs)
    biased = [seat(name, flip_second_order(steady)) for name in ("x", "y")]

    verdict = judge(outcome_of(texts_of(*pairs), [steady, *biased]))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    (reason,) = verdict.reasons
    assert reason.code == "judges_unusable"
    assert "1 judges count, 2 are needed" in reason.text
    assert "judge x agrees with itself in 0 of 12 pairs (0%)" in reason.text


def test_judges_without_any_majority_leave_the_question_open() -> None:
    pairs = pairs_of(n_before=1, n_after=1)
    seats = agreed(pairs)
    others = [seat(f"k{i}", flipped(one)) for i, one in enumerate(seats[:2])]

    verdict = judge(outcome_of(texts_of(*pairs), [*seats[:2], *others]))

    assert [reason.code for reason in verdict.reasons] == ["judges_unusable"]
    assert "none of 2 pairs has a majority" in verdict.reasons[0].text


def test_a_judge_that_is_not_counted_is_told_of() -> None:
    pairs = pairs_of(n_after=8)
    seats = agreed(pairs)
    gone = replace(seats[0], problem="judge_unreachable: it does not answer (ConnectError)")

    verdict = judge(outcome_of(texts_of(*pairs), [gone, *seats[1:]]))

    assert verdict.kind is VerdictKind.PASS
    (note,) = [note for note in verdict.notes if note.code == "judge_not_counted"]
    assert note.text == "judge j0: judge_unreachable: it does not answer (ConnectError)"


def test_judges_that_were_asked_for_and_not_asked_leave_the_question_open() -> None:
    assert [reason.code for reason in judge(None).reasons] == ["judges_unusable"]


def test_nothing_to_judge_is_no_question() -> None:
    verdict = judge(outcome_of(FreeTexts(), [seat(name, {}) for name in "abc"]))

    assert verdict.kind is VerdictKind.PASS


def test_without_the_policy_nobody_misses_judges() -> None:
    assert judge(None, GatePolicy()).kind is VerdictKind.PASS


def flipped(one: Seat) -> dict[Question, Vote]:
    return {question: OTHER.get(vote, vote) for question, vote in one.answers.items()}


def flip_second_order(one: Seat) -> dict[Question, Vote]:
    return {
        question: vote if question.is_before_first else OTHER.get(vote, vote)
        for question, vote in one.answers.items()
    }
