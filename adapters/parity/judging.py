"""Judges: which of two free-text answers do other models prefer? Pure.

Cases with a gold answer are scored; of those without one, the pairs whose texts differ are shown to
judges, who do not know which answer is whose. What this module plans is asked by the controller.
First every judge is asked about a sample in both orders: one that prefers a place instead of an
answer is refused. Then the rest, in an order that changes from pair to pair and judge to judge.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.parity.comparison import ComparisonRules
from adapters.parity.discordance import mcnemar_p, worse_p
from adapters.parity.judge_outcome import (
    MIN_ACCEPTED,
    Decision,
    JudgedCounts,
    JudgedPair,
    JudgeOutcome,
    JudgeRecord,
    Vote,
)
from adapters.parity.judge_prompt import Choice, question_of
from adapters.parity.scoring import AnswerEquality, compare_answers
from adapters.parity.task_measure import STANDALONE, TaskInputs

SAMPLE_PAIRS = 20
"""Pairs that each judge is asked about in both orders, at most."""
_ROUNDING = 1e-12
"""Losses that differ from the margin by less than this do not exceed it."""


@dataclass(frozen=True, slots=True)
class JudgePair:
    """Two different answers to one case."""

    case_id: str
    segment: str
    question: str
    """The case as a judge reads it."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FreeTexts:
    """The cases without gold that both sides answered."""

    pairs: tuple[JudgePair, ...] = ()
    """Those whose answers differ."""
    n_equal_by_segment: Mapping[str, int] = field(default_factory=dict)
    """Those whose answers are the same or mean the same: ties, without asking anybody."""
    before_name: str = STANDALONE


@dataclass(frozen=True, slots=True)
class Question:
    """One pair in one order."""

    case_id: str
    is_before_first: bool


@dataclass(frozen=True, slots=True)
class Seat:
    """One judge and what it answered so far."""

    name: str
    host: str
    model: str
    answers: Mapping[Question, Vote] = field(default_factory=dict)
    problem: str | None = None
    """Why it could not be asked everything; such a judge does not count, with no vote at all."""

    @property
    def record(self) -> JudgeRecord:
        """Its self-consistency, and what else is known of it."""
        both = [pair for pair in self._by_case().values() if len(pair) == 2]
        invalid = sum(vote is Vote.INVALID for vote in self.answers.values())
        return JudgeRecord(
            name=self.name,
            host=self.host,
            model=self.model,
            n=len(both),
            n_consistent=sum(one is other and one is not Vote.INVALID for one, other in both),
            n_questions=len(self.answers),
            n_invalid=invalid,
            problem=self.problem,
        )

    @property
    def votes(self) -> dict[str, Vote]:
        """One vote for each case it was asked about."""
        return {case_id: _one_vote(votes) for case_id, votes in self._by_case().items()}

    def _by_case(self) -> dict[str, list[Vote]]:
        found: dict[str, list[Vote]] = {}
        for question, vote in self.answers.items():
            found.setdefault(question.case_id, []).append(vote)
        return found


def free_texts(task: TaskInputs) -> FreeTexts:
    """What there is to judge: cases without gold, the engine's first repeat as after.

    Before is the live version's answer where there is a live version, else the standalone model's.
    A case that one side did not answer is left out.
    """
    has_live = task.live_version is not None and bool(task.live)
    before_texts = task.live if has_live else task.standalone
    pairs: list[JudgePair] = []
    equal: Counter[str] = Counter()
    for case in task.cases:
        before, after = before_texts.get(case.id), task.engine.get(case.id, ())[:1]
        if case.expect is not None or before is None or not after:
            continue
        if compare_answers(case, before, after[0]) is AnswerEquality.DIFFERENT:
            pairs.append(JudgePair(case.id, case.segment, question_of(case), before, after[0]))
        else:
            equal[case.segment] += 1
    name = task.live_version if has_live and task.live_version else STANDALONE
    return FreeTexts(tuple(pairs), dict(equal), name)


def plan_sample(pairs: Sequence[JudgePair], *, seed: int) -> tuple[Question, ...]:
    """The first questions to each judge: up to `SAMPLE_PAIRS` pairs, each in both orders."""
    sample = _shuffled(pairs, seed)[:SAMPLE_PAIRS]
    return tuple(Question(pair.case_id, first) for pair in sample for first in (True, False))


def plan_rest(
    pairs: Sequence[JudgePair], judges: Sequence[str], *, seed: int
) -> dict[str, tuple[Question, ...]]:
    """The other questions by judge: each pair once.

    Each judge sees the earlier answer first in every other pair, and of one pair neighbouring
    judges see it in different orders, so that a leaning towards a place cancels out. Neither the
    order of the pairs nor that of the judges changes the plan.
    """
    rest = _shuffled(pairs, seed)[SAMPLE_PAIRS:]
    return {
        name: tuple(
            Question(pair.case_id, is_before_first=(index + turn) % 2 == 0)
            for index, pair in enumerate(rest)
        )
        for turn, name in enumerate(sorted(judges))
    }


def vote_of(choice: Choice, question: Question) -> Vote:
    """What a choice between the first and the second answer says of before and after."""
    match choice:
        case Choice.FIRST:
            return Vote.BEFORE if question.is_before_first else Vote.AFTER
        case Choice.SECOND:
            return Vote.AFTER if question.is_before_first else Vote.BEFORE
        case Choice.TIE:
            return Vote.TIE
    return Vote.INVALID


def conclude_votes(
    texts: FreeTexts, seats: Sequence[Seat], *, rules: ComparisonRules
) -> JudgeOutcome:
    """Count majorities: two of three judges, both of two; with fewer nothing is decided.

    A pair without a majority is dropped and counted. `is_worse` asks for a net loss above the
    margin over all pairs, equal ones included, and for the one-sided exact McNemar test at the
    level of the gate's other comparisons.
    """
    records = {seat.name: seat.record for seat in sorted(seats, key=lambda seat: seat.name)}
    votes = {seat.name: seat.votes for seat in seats if records[seat.name].is_accepted}
    pairs = tuple(_judge_pair(pair, votes) for pair in sorted(texts.pairs, key=_case_id))
    names = sorted({pair.segment for pair in pairs} | set(texts.n_equal_by_segment))
    segments = tuple(_count(texts, pairs, name) for name in names)
    total = _count(texts, pairs, None)
    outcome = JudgeOutcome(
        judges=tuple(records.values()),
        before_name=texts.before_name,
        total=total,
        segments=segments,
        pairs=pairs,
        mcnemar_p=None,
        worse_p=None,
        is_worse=None,
    )
    return _tested(outcome, rules)


def _tested(outcome: JudgeOutcome, rules: ComparisonRules) -> JudgeOutcome:
    total = outcome.total
    if outcome.is_missing or not outcome.is_usable or total.net_loss is None:
        return outcome
    before, after = total.n_before_preferred, total.n_after_preferred
    one_sided = worse_p(before, after)
    is_above = total.net_loss > rules.margin + _ROUNDING
    return replace(
        outcome,
        mcnemar_p=mcnemar_p(before, after),
        worse_p=one_sided,
        is_worse=is_above and one_sided <= rules.alpha,
    )


def _judge_pair(pair: JudgePair, votes: Mapping[str, Mapping[str, Vote]]) -> JudgedPair:
    said = {
        name: by_case[pair.case_id] for name, by_case in votes.items() if pair.case_id in by_case
    }
    return JudgedPair(pair.case_id, pair.segment, said, _majority(said.values(), len(votes)))


def _majority(votes: Iterable[Vote], n_accepted: int) -> Decision:
    counted = Counter(vote for vote in votes if vote not in (Vote.INVALID, Vote.UNSTEADY))
    needed = max(MIN_ACCEPTED, n_accepted // 2 + 1)
    for vote, n_votes in counted.items():
        if n_votes >= needed:
            return Decision(vote.value)
    return Decision.DROPPED


def _count(texts: FreeTexts, pairs: Sequence[JudgedPair], segment: str | None) -> JudgedCounts:
    """The counts of one segment, or of all with None."""
    decided = Counter(pair.decision for pair in pairs if segment is None or pair.segment == segment)
    equal = texts.n_equal_by_segment
    n_equal = sum(equal.values()) if segment is None else equal.get(segment, 0)
    return JudgedCounts(
        segment="total" if segment is None else segment,
        n_pairs=n_equal + decided.total(),
        n_equal=n_equal,
        n_ties=n_equal + decided[Decision.TIE],
        n_dropped=decided[Decision.DROPPED],
        n_before_preferred=decided[Decision.BEFORE],
        n_after_preferred=decided[Decision.AFTER],
    )


def _one_vote(votes: Sequence[Vote]) -> Vote:
    if len(set(votes)) == 1:
        return votes[0]
    return Vote.INVALID if Vote.INVALID in votes else Vote.UNSTEADY


def _case_id(pair: JudgePair) -> str:
    return pair.case_id


def _shuffled(pairs: Sequence[JudgePair], seed: int) -> list[JudgePair]:
    """In an order that depends on the seed and the cases' names alone."""

    def place(pair: JudgePair) -> bytes:
        return hashlib.sha256(f"{seed}/{pair.case_id}".encode("utf-8", "surrogatepass")).digest()

    return sorted(pairs, key=place)
