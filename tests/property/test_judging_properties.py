"""Whoever judges, in whatever order: counts add up, and only the votes matter."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.comparison import ComparisonRules
from adapters.parity.gate_plan import measure
from adapters.parity.judge_outcome import MIN_ACCEPTED, MIN_JUDGES, Decision, Vote
from adapters.parity.judge_prompt import Choice, judge_messages, read_choice
from adapters.parity.judging import (
    FreeTexts,
    JudgePair,
    Question,
    Seat,
    conclude_votes,
    plan_rest,
    plan_sample,
    vote_of,
)
from adapters.parity.policy import GatePolicy
from adapters.parity.verdict import VerdictKind, decide
from tests.builders.parity_cases import inputs

RULES = ComparisonRules()
GOOD = measure(inputs())
EXCHANGED = {Vote.BEFORE: Vote.AFTER, Vote.AFTER: Vote.BEFORE}


@st.composite
def texts(draw: st.DrawFn) -> FreeTexts:
    ids = draw(st.lists(st.integers(0, 999), min_size=0, max_size=40, unique=True))
    pairs = tuple(
        JudgePair(f"c{i}", draw(st.sampled_from(["a", "b"])), f"q{i}", "old", "new") for i in ids
    )
    equal = draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 50)))
    return FreeTexts(pairs, equal)


@st.composite
def asked(draw: st.DrawFn) -> tuple[FreeTexts, list[Seat]]:
    free = draw(texts())
    names = [f"j{i}" for i in range(draw(st.integers(0, 5)))]
    plan = plan_rest(free.pairs, names, seed=0)
    sample = plan_sample(free.pairs, seed=0)
    rng = random.Random(draw(st.integers(0, 2**32)))
    seats = []
    for name in names:
        # Steady judges and wavering ones, of many votes and of few.
        kinds = draw(st.lists(st.sampled_from(Vote), min_size=1, max_size=3))
        is_steady = draw(st.booleans())
        by_case = {pair.case_id: rng.choice(kinds) for pair in free.pairs}
        answers = {
            question: by_case[question.case_id] if is_steady else rng.choice(kinds)
            for question in (*sample, *plan[name])
        }
        problem = draw(st.sampled_from([None, None, None, "gone"]))
        seats.append(Seat(name, "h", "m", answers, problem))
    return free, seats


@settings(deadline=None)
@given(asked())
def test_counts_add_up(case: tuple[FreeTexts, list[Seat]]) -> None:
    free, seats = case

    outcome = conclude_votes(free, seats, rules=RULES)

    for counts in (outcome.total, *outcome.segments):
        parts = (
            counts.n_ties,
            counts.n_dropped,
            counts.n_before_preferred,
            counts.n_after_preferred,
        )
        assert counts.n_pairs == sum(parts)
        assert 0 <= counts.n_equal <= counts.n_ties
        assert min(parts) >= 0
    assert outcome.total.n_asked == len(free.pairs) == len(outcome.pairs)
    for name in ("n_pairs", "n_equal", "n_ties", "n_dropped", "n_after_preferred"):
        assert getattr(outcome.total, name) == sum(getattr(s, name) for s in outcome.segments)


@settings(deadline=None)
@given(asked(), st.randoms(use_true_random=False))
def test_neither_the_order_of_pairs_nor_of_judges_matters(
    case: tuple[FreeTexts, list[Seat]], rng: random.Random
) -> None:
    free, seats = case
    pairs, others = list(free.pairs), list(seats)
    rng.shuffle(pairs)
    rng.shuffle(others)

    shuffled = conclude_votes(replace(free, pairs=tuple(pairs)), others, rules=RULES)

    assert shuffled == conclude_votes(free, seats, rules=RULES)
    names = [seat.name for seat in others]
    assert plan_rest(pairs, names, seed=3) == plan_rest(free.pairs, sorted(names), seed=3)
    assert plan_sample(pairs, seed=3) == plan_sample(free.pairs, seed=3)


@settings(deadline=None)
@given(asked())
def test_exchanging_before_and_after_exchanges_the_preferences(
    case: tuple[FreeTexts, list[Seat]],
) -> None:
    free, seats = case
    mirrored = [
        replace(seat, answers={q: EXCHANGED.get(vote, vote) for q, vote in seat.answers.items()})
        for seat in seats
    ]

    one, other = (
        conclude_votes(free, seats, rules=RULES),
        conclude_votes(free, mirrored, rules=RULES),
    )

    assert one.total.n_before_preferred == other.total.n_after_preferred
    assert one.total.n_dropped == other.total.n_dropped
    assert one.mcnemar_p == other.mcnemar_p
    assert not (one.is_worse and other.is_worse)


@settings(deadline=None)
@given(asked())
def test_nothing_is_decided_by_fewer_than_two_accepted_judges_nor_without_their_majority(
    case: tuple[FreeTexts, list[Seat]],
) -> None:
    free, seats = case

    outcome = conclude_votes(free, seats, rules=RULES)

    accepted = {judge.name for judge in outcome.judges if judge.is_accepted}
    for pair in outcome.pairs:
        assert set(pair.votes) <= accepted
        if pair.decision is not Decision.DROPPED:
            agreeing = [v for v in pair.votes.values() if v.value == pair.decision.value]
            assert len(agreeing) >= MIN_ACCEPTED
            assert 2 * len(agreeing) > len(accepted)
    if outcome.is_worse:
        assert len(accepted) >= MIN_ACCEPTED
        assert len(seats) >= 3
        assert outcome.worse_p is not None
        assert outcome.worse_p <= RULES.alpha
        assert outcome.total.n_before_preferred > outcome.total.n_after_preferred


@settings(deadline=None)
@given(asked())
def test_a_pass_with_judges_needs_judges_that_decided_and_do_not_prefer_the_past(
    case: tuple[FreeTexts, list[Seat]],
) -> None:
    outcome = conclude_votes(*case, rules=RULES)

    verdict = decide(replace(GOOD, judge=outcome), GatePolicy(use_judges=True))

    assert (verdict.kind is VerdictKind.FAIL) == bool(outcome.is_worse)
    if verdict.kind is VerdictKind.PASS:
        assert len(outcome.judges) >= MIN_JUDGES
        assert not outcome.pairs or outcome.n_accepted >= MIN_ACCEPTED
        assert not outcome.pairs or outcome.total.n_dropped < len(outcome.pairs)


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_a_judge_that_always_names_one_place_is_refused(n_pairs: int, seed: int) -> None:
    pairs = tuple(JudgePair(f"c{i}", "a", "q", "old", "new") for i in range(n_pairs))
    answers = {
        question: vote_of(Choice.FIRST, question) for question in plan_sample(pairs, seed=seed)
    }

    assert Seat("j", "h", "m", answers).record.is_refused


@given(st.sampled_from(Choice), st.booleans())
def test_a_choice_and_its_opposite_in_the_other_order_are_one_vote(
    choice: Choice, is_first: bool
) -> None:
    opposite = {Choice.FIRST: Choice.SECOND, Choice.SECOND: Choice.FIRST}.get(choice, choice)

    one = vote_of(choice, Question("c", is_first))

    assert one is vote_of(opposite, Question("c", not is_first))


@given(st.text())
def test_reading_a_choice_survives_anything(text: str) -> None:
    assert read_choice(text) in Choice


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_every_text_stays_inside_its_fence(question: str, first: str, second: str) -> None:
    content = judge_messages(question, first, second)[1]["content"]

    mark = content.rpartition("<<end of answer B ")[2].partition(">>")[0]
    assert all(mark not in text for text in (question, first, second))
    assert content.count(mark) == 6
