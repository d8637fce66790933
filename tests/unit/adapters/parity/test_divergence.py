import pytest

from adapters.parity.divergence import Continuation, join_answers, plan_continuations
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.protocol import Generated, VerifyRow

STOP = 9


def case(read, own, *, repeat=0, is_finite=True):
    answer = CandidateAnswer("c", repeat, (1, 2), tuple(read), ())
    argmax = tuple(own) if is_finite else ()
    zeros = (0.0,) * len(argmax)
    return answer, VerifyRow("c", is_finite, argmax, zeros, zeros)


def planned(*cases, limit=6):
    answers = [answer for answer, _ in cases]
    rows = {answer.item: row for answer, row in cases}
    return plan_continuations(answers, rows, max_tokens={"c": limit}, stop_ids={STOP})


def test_generation_starts_behind_the_standalone_models_own_choice_at_the_divergence():
    (item,) = planned(case((4, 5, 6, STOP), (4, 5, 7, 3)))

    assert item == Continuation("c", (1, 2), (4, 5, 7), 3)
    assert item.item.token_ids == (1, 2, 4, 5, 7)


@pytest.mark.parametrize(
    ("read", "own"),
    [
        ((4, 5, STOP), (4, 5, STOP)),  # the same answer
        ((4, 5, 6), (4, STOP, 3)),  # it would have ended there
        ((4, 5, 6, 4, 5, 6), (4, 5, 6, 4, 5, 7)),  # its last token is the last that is allowed
    ],
)
def test_nothing_is_generated_where_verification_knows_the_whole_answer(read, own):
    assert planned(case(read, own)) == []


def test_an_engine_that_ended_early_without_a_stop_token_does_not_end_the_standalone_answer():
    assert planned(case((4, 5), (4, 5))) == [Continuation("c", (1, 2), (4, 5), 4)]


def test_one_repeat_that_agrees_spares_the_generation_for_the_others():
    assert planned(case((4, 5), (4, 6)), case((4, 6, STOP), (4, 6, STOP), repeat=1)) == []


def test_the_repeat_with_the_longest_agreement_is_gone_on_from():
    (item,) = planned(case((4, 5), (4, 6)), case((4, 6, 8), (4, 6, 7), repeat=1))

    assert item.known == (4, 6, 7)


def test_a_poisoned_case_and_an_empty_answer_have_no_standalone_answer():
    cases = [case((4, 5), (), is_finite=False), case((), (), repeat=1)]
    answers = [answer for answer, _ in cases]
    rows = {answer.item: row for answer, row in cases}

    assert planned(*cases) == []
    assert join_answers(answers, rows, {}, max_tokens={"c": 6}, stop_ids={STOP}) == {}


def test_a_joined_answer_says_how_much_of_it_was_read():
    answer, row = case((4, 5), (4, 6))
    generated = {"c": Generated((7, STOP), (0.0, 0.0), "x")}

    joined = join_answers(
        [answer], {answer.item: row}, generated, max_tokens={"c": 6}, stop_ids={STOP}
    )

    assert joined["c"].token_ids == (4, 6, 7, STOP)
    assert joined["c"].n_verified == 2
