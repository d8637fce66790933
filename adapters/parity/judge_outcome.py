"""What judges said: votes, each judge's self-consistency, and the counts of both. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MIN_JUDGES = 3
"""So many must be configured: with fewer there is no majority that one mistake cannot turn."""
MIN_ACCEPTED = 2
"""So many must have been found consistent; two decide together or not at all."""
MIN_CONSISTENCY = 0.9
"""Of the sample; a judge under it is refused."""


class Vote(StrEnum):
    """What one judge said of one pair: it prefers ..."""

    BEFORE = "before"
    AFTER = "after"
    TIE = "tie"
    INVALID = "invalid"
    """An answer that is no vote."""
    UNSTEADY = "unsteady"
    """Another preference in the other order."""


class Decision(StrEnum):
    """What the judges said together."""

    BEFORE = "before"
    AFTER = "after"
    TIE = "tie"
    DROPPED = "dropped"
    """No majority."""


@dataclass(frozen=True, slots=True)
class JudgeRecord:
    """How far one judge can be trusted. `host` is all that is kept of its address."""

    name: str
    host: str
    model: str
    n: int
    """Pairs that it was asked about in both orders."""
    n_consistent: int
    n_questions: int
    n_invalid: int
    """Answers that are no vote."""
    problem: str | None = None

    @property
    def consistency(self) -> float | None:
        """Share of the sample with one preference in both orders; None: nothing was asked."""
        return self.n_consistent / self.n if self.n else None

    @property
    def is_refused(self) -> bool:
        """It contradicts itself too often."""
        return self.consistency is not None and self.consistency < MIN_CONSISTENCY

    @property
    def is_accepted(self) -> bool:
        """It was measured, holds, and could be asked everything."""
        return self.problem is None and self.consistency is not None and not self.is_refused

    def to_json(self) -> dict[str, Any]:
        """For the report; neither key nor path of the address."""
        return {
            "name": self.name,
            "host": self.host,
            "model": self.model,
            "consistency": self.consistency,
            "n": self.n,
            "n_consistent": self.n_consistent,
            "n_questions": self.n_questions,
            "n_invalid": self.n_invalid,
            "is_refused": self.is_refused,
            "is_accepted": self.is_accepted,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair that was put to the judges."""

    case_id: str
    segment: str
    votes: Mapping[str, Vote]
    """By judge, of the accepted ones."""
    decision: Decision

    def to_json(self) -> dict[str, Any]:
        """For the report; the texts are with the cases."""
        return {
            "case_id": self.case_id,
            "segment": self.segment,
            "decision": self.decision.value,
            "votes": {name: vote.value for name, vote in sorted(self.votes.items())},
        }


@dataclass(frozen=True, slots=True)
class JudgedCounts:
    """`n_pairs` is the sum of ties, dropped and preferred; `n_equal` of the ties were not asked."""

    segment: str
    n_pairs: int
    n_equal: int
    n_ties: int
    n_dropped: int
    n_before_preferred: int
    n_after_preferred: int

    @property
    def n_asked(self) -> int:
        """Pairs whose answers differ."""
        return self.n_pairs - self.n_equal

    @property
    def net_loss(self) -> float | None:
        """Share of all pairs by which more are preferred before than after; None: no pair."""
        if not self.n_pairs:
            return None
        return (self.n_before_preferred - self.n_after_preferred) / self.n_pairs

    def to_json(self) -> dict[str, Any]:
        """Every count, and the net loss."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        return {**counts, "n_asked": self.n_asked, "net_loss": self.net_loss}


@dataclass(frozen=True, slots=True)
class JudgeOutcome:
    """What the judges found. None: undefined, because nothing was decided."""

    judges: tuple[JudgeRecord, ...]
    """Every configured one, by name."""
    before_name: str
    total: JudgedCounts
    segments: tuple[JudgedCounts, ...]
    pairs: tuple[JudgedPair, ...]
    mcnemar_p: float | None
    """Two-sided exact test of preferred before against preferred after."""
    worse_p: float | None
    """One-sided: the chance of so many preferred before if both were preferred equally."""
    is_worse: bool | None
    """The net loss is above the margin and proven."""

    @property
    def is_missing(self) -> bool:
        """Too few judges are configured."""
        return len(self.judges) < MIN_JUDGES

    @property
    def n_accepted(self) -> int:
        """Judges whose votes count."""
        return sum(judge.is_accepted for judge in self.judges)

    @property
    def is_usable(self) -> bool:
        """Nobody had to be asked, or enough judges decided at least one pair."""
        asked = self.total.n_asked
        return not asked or (self.n_accepted >= MIN_ACCEPTED and self.total.n_dropped < asked)

    def to_json(self) -> dict[str, Any]:
        """The report's `judge`."""
        return {
            "before_name": self.before_name,
            "after_name": "engine",
            "judges": [judge.to_json() for judge in self.judges],
            "n_accepted": self.n_accepted,
            "is_usable": self.is_usable and not self.is_missing,
            "total": self.total.to_json(),
            "mcnemar_p": self.mcnemar_p,
            "worse_p": self.worse_p,
            "is_worse": self.is_worse,
            "segments": [item.to_json() for item in self.segments],
            "pairs": [pair.to_json() for pair in self.pairs],
        }
