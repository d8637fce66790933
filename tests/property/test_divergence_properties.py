"""By induction: what is read and agreed is the standalone model's own answer; the rest is made."""

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.divergence import join_answers, plan_continuations
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.protocol import Generated, VerifyRow

STOP = 0
_seeds = st.integers(0, 40)


def own_next(seed, tokens):
    """A model: the next token is a function of everything before it."""
    return hash((seed, tuple(tokens))) % 5


def own_answer(seed, prompt, limit):
    tokens = []
    while len(tokens) < limit and STOP not in tokens:
        tokens.append(own_next(seed, (*prompt, *tokens)))
    return tuple(tokens)


def row_of(answer, seed):
    argmax = tuple(
        own_next(seed, (*answer.prompt_token_ids, *answer.token_ids[:i]))
        for i in range(len(answer.token_ids))
    )
    zeros = (0.0,) * len(argmax)
    return VerifyRow(answer.case_id, True, argmax, zeros, zeros)


@st.composite
def engine_answers(draw, seed):
    """Answers that follow the standalone model for a while, and then perhaps go their own way."""
    answers = []
    for case in range(draw(st.integers(1, 3))):
        prompt = (case + 1, 7)
        limit = draw(st.integers(1, 8))
        own = own_answer(seed, prompt, limit)
        for repeat in range(draw(st.integers(1, 3))):
            n_same = draw(st.integers(0, len(own)))
            rest = draw(st.lists(st.integers(0, 4), max_size=limit - n_same))
            tokens = own if draw(st.booleans()) else (*own[:n_same], *rest)
            if STOP in tokens:
                tokens = tokens[: tokens.index(STOP) + 1]
            answers.append((limit, CandidateAnswer(f"c{case}", repeat, prompt, tuple(tokens), ())))
    return answers


@given(st.data(), _seeds)
@settings(max_examples=300, deadline=None)
def test_joined_answers_are_what_the_standalone_model_alone_would_say(data, seed):
    drawn = data.draw(engine_answers(seed))
    answers = [answer for _, answer in drawn]
    limits = {answer.case_id: limit for limit, answer in drawn}
    rows = {answer.item: row_of(answer, seed) for answer in answers}

    plan = plan_continuations(answers, rows, max_tokens=limits, stop_ids={STOP})
    generated = {
        item.case_id: Generated(own_answer(seed, item.item.token_ids, item.n), (), "")
        for item in plan
    }
    joined = join_answers(answers, rows, generated, max_tokens=limits, stop_ids={STOP})

    assert len({item.case_id for item in plan}) == len(plan)
    for answer in answers:
        if not answer.token_ids:
            continue
        own = own_answer(seed, answer.prompt_token_ids, limits[answer.case_id])
        assert joined[answer.case_id].token_ids == own
        if answer.token_ids == own:
            assert joined[answer.case_id].n_verified == len(own)
            assert answer.case_id not in generated


@given(st.data(), _seeds)
@settings(max_examples=100, deadline=None)
def test_without_a_divergence_nothing_is_generated_and_the_answer_is_the_engines(data, seed):
    drawn = [
        (limit, answer)
        for limit, answer in data.draw(engine_answers(seed))
        if answer.token_ids == own_answer(seed, answer.prompt_token_ids, limit)
    ]
    answers = [answer for _, answer in drawn]
    limits = {answer.case_id: limit for limit, answer in drawn}
    rows = {answer.item: row_of(answer, seed) for answer in answers}

    joined = join_answers(answers, rows, {}, max_tokens=limits, stop_ids={STOP})

    assert plan_continuations(answers, rows, max_tokens=limits, stop_ids={STOP}) == []
    assert {a.case_id: a.token_ids for a in answers} == {
        key: own.token_ids for key, own in joined.items()
    }
