"""Imaginary free-text answers, and judges that have voted on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.parity.judge_outcome import Vote
from adapters.parity.judging import FreeTexts, JudgePair, Question, Seat, plan_rest, plan_sample

GOOD, BAD = "a good answer", "a poor answer"


def pairs_of(
    n_before: int = 0, n_after: int = 0, n_tie: int = 0, *, segment: str = "all"
) -> tuple[JudgePair, ...]:
    """So many pairs whose better answer is the one before, the one after, or neither."""
    kinds = ["before"] * n_before + ["after"] * n_after + ["tie"] * n_tie
    texts = {"before": (GOOD, BAD), "after": (BAD, GOOD), "tie": (f"{BAD}!", BAD)}
    return tuple(
        JudgePair(f"{segment}-{kind}-{i}", segment, f"question {i}", *texts[kind])
        for i, kind in enumerate(kinds)
    )


def texts_of(*pairs: JudgePair, n_equal: int = 0) -> FreeTexts:
    return FreeTexts(pairs, {"all": n_equal} if n_equal else {})


def voted(
    pairs: Sequence[JudgePair], votes: Mapping[str, Mapping[str, Vote]], *, seed: int = 0
) -> list[Seat]:
    """Judges that were asked everything, with one vote a case in whatever order."""
    rest = plan_rest(pairs, list(votes), seed=seed)
    sample = plan_sample(pairs, seed=seed)
    return [
        seat(name, {q: by_case[q.case_id] for q in (*sample, *rest[name])})
        for name, by_case in votes.items()
    ]


def seat(name: str, answers: Mapping[Question, Vote], *, problem: str | None = None) -> Seat:
    return Seat(name, "judges.example", f"model-{name}", dict(answers), problem)


def agreed(pairs: Sequence[JudgePair], *, n_judges: int = 3) -> list[Seat]:
    """Judges that all see which answer is better."""
    said = {pair.case_id: _right(pair) for pair in pairs}
    return voted(pairs, {f"j{i}": said for i in range(n_judges)})


def _right(pair: JudgePair) -> Vote:
    if pair.before == GOOD:
        return Vote.BEFORE
    return Vote.AFTER if pair.after == GOOD else Vote.TIE
