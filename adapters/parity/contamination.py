"""Contamination: which cases of a suite the adapter has seen in training, almost word for word.

Types, the rules' meaning and what follows from a report. The search is `contamination_search` and
`near_duplicates`; what of a conversation is compared is `compared_text`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from adapters.errors import SuiteContaminated, SuiteInvalid
from adapters.parity.suite import Case, Suite

MAX_MISS_PROBABILITY = 1e-3
"""How often a pair exactly at the lowest threshold may be missed; arbitrary. Pairs above it are
missed far less often: with the default rules 1.4e-4 at 0.6 and 2.3e-8 at 0.7."""
_N_NAMED = 20
"""Leaked cases that a refusal names; the report has all."""


class Banding(NamedTuple):
    """How locality-sensitive hashing cuts a signature: `bands` pieces of `rows` values."""

    bands: int
    rows: int

    def miss_probability(self, jaccard: float) -> float:
        """Chance that a pair with this Jaccard similarity shares no band: (1 - j^rows)^bands.

        A signature value is equal in both with probability j, so a band is with j^rows.
        """
        return float((1.0 - jaccard**self.rows) ** self.bands)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationRules:
    """What counts as a near-duplicate, and how many are too many."""

    jaccard: float = 0.7
    """A case has leaked when a training document is at least so similar (Jaccard, 0 to 1)."""
    shingle: int = 5
    """Characters of a shingle."""
    num_perm: int = 256
    """Values of a MinHash signature."""
    max_fraction: float = 0.005
    """More leaked cases than this fraction of the suite refuse it."""
    sweep: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6)
    """Thresholds of the table that shows how much hangs on `jaccard`."""

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing.

        Raises:
            ValueError: a field is out of its range.
        """
        if not all(0.0 < value <= 1.0 for value in (self.jaccard, *self.sweep)):
            raise ValueError("jaccard and sweep are similarities above 0 and up to 1")
        if not 1 <= self.shingle <= 50:
            raise ValueError("shingle is 1 to 50 characters")
        if not 16 <= self.num_perm <= 1024:
            raise ValueError("num_perm is 16 to 1024")
        if not 0.0 <= self.max_fraction <= 1.0:
            raise ValueError("max_fraction is 0 to 1")

    @property
    def lowest(self) -> float:
        """The smallest similarity that a report may speak of."""
        return min((self.jaccard, *self.sweep))

    @property
    def banding(self) -> Banding:
        """The fewest chance candidates that still miss at most `MAX_MISS_PROBABILITY` at `lowest`.

        More rows mean fewer candidates and more misses, so the largest number of rows that keeps
        the bound; one row (all of `num_perm` bands) where none does.
        """
        choices = (
            Banding(self.num_perm // rows, rows) for rows in range(1, self.num_perm // 2 + 1)
        )
        good = [c for c in choices if c.miss_probability(self.lowest) <= MAX_MISS_PROBABILITY]
        return max(good, key=lambda c: c.rows, default=Banding(self.num_perm, 1))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "sweep": list(self.sweep)}


@dataclass(frozen=True, slots=True)
class Leak:
    """A case and the training document that is most like it."""

    case_id: str
    document: int
    """Line of the training set, from 1; of equally similar ones the first."""
    jaccard: float
    """Exact, of the sets of shingles."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """How many cases would have leaked at another threshold."""

    jaccard: float
    n_leaked: int
    fraction: float | None
    """Of all cases; None without cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationReport:
    """What a comparison of a suite with a training set found."""

    n_cases: int
    n_documents: int
    """Lines of the training set that were compared."""
    rules: ContaminationRules
    leaks: tuple[Leak, ...]
    """At or above `rules.jaccard`, the most similar first; each case at most once."""
    sweep: tuple[SweepRow, ...]
    n_without_text: int = 0
    """Cases that hold no text to compare (images alone, say): nothing is known of them."""
    n_plain_documents: int = 0
    """Documents in which question and answer could not be told apart; compared as a whole."""
    training_digest: str | None = None
    """sha256 of the training set's file, where it was a file."""

    @property
    def fraction(self) -> float | None:
        """Leaked cases over all cases; None without cases."""
        return fraction_of(len(self.leaks), self.n_cases)

    @property
    def is_refused(self) -> bool:
        """Whether more leaked than `rules.max_fraction` allows."""
        return self.fraction is not None and self.fraction > self.rules.max_fraction

    @property
    def leaked_ids(self) -> frozenset[str]:
        """The ids of the leaked cases."""
        return frozenset(leak.case_id for leak in self.leaks)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` is the inverse."""
        banding = self.rules.banding
        return {
            "n_cases": self.n_cases,
            "n_documents": self.n_documents,
            "n_without_text": self.n_without_text,
            "n_plain_documents": self.n_plain_documents,
            "training_digest": self.training_digest,
            "rules": self.rules.to_json(),
            "search": {
                **banding._asdict(),
                "miss_probability": banding.miss_probability(self.rules.jaccard),
            },
            "n_leaked": len(self.leaks),
            "fraction": self.fraction,
            "is_refused": self.is_refused,
            "leaks": [asdict(leak) for leak in self.leaks],
            "sweep": [asdict(row) for row in self.sweep],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ContaminationReport:
        """What `to_json` wrote; derived values are not read but derived again.

        Raises:
            SuiteInvalid: not a report.
        """
        try:
            rules = raw["rules"]
            return cls(
                n_cases=raw["n_cases"],
                n_documents=raw["n_documents"],
                n_without_text=raw["n_without_text"],
                n_plain_documents=raw["n_plain_documents"],
                training_digest=raw["training_digest"],
                rules=ContaminationRules(**{**rules, "sweep": tuple(rules["sweep"])}),
                leaks=tuple(Leak(**leak) for leak in raw["leaks"]),
                sweep=tuple(SweepRow(**row) for row in raw["sweep"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            problem = f"not a contamination report: {type(exc).__name__}"
            fix = "upload the suite again with its training set"
            raise SuiteInvalid(line=0, field="contamination", problem=problem, fix=fix) from exc

    def check(self) -> None:
        """Let a suite through.

        Raises:
            SuiteContaminated: more leaked than the rules allow; names the most similar cases.
        """
        fraction = self.fraction
        if fraction is not None and self.is_refused:
            raise SuiteContaminated(
                n_leaked=len(self.leaks),
                n_cases=self.n_cases,
                fraction=fraction,
                limit=self.rules.max_fraction,
                jaccard=self.rules.jaccard,
                sweep=[asdict(row) for row in self.sweep],
                errors=[_place(leak) for leak in self.leaks[:_N_NAMED]],
            )


def _place(leak: Leak) -> dict[str, Any]:
    title = f"like line {leak.document} of the training set (Jaccard {leak.jaccard:.3f})"
    return {"code": "leaked_case", "subject": leak.case_id, "title": title, **asdict(leak)}


def fraction_of(n: int, of: int) -> float | None:
    """n / of; None of nothing."""
    return n / of if of else None


class TrainingText(NamedTuple):
    """One text that the model was trained to go on from, and where it stands."""

    line: int
    """From 1. One line may give several texts: a conversation's beginnings."""
    text: str
    is_plain: bool = False
    """Question and answer could not be told apart."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A case that the gate leaves out, and why."""

    case_id: str
    segment: str
    reason: str
    """`contaminated` or `too_long`."""
    detail: str

    def to_json(self) -> dict[str, str]:
        """JSON-ready, as the report keeps it."""
        return {
            "id": self.case_id,
            "segment": self.segment,
            "reason": self.reason,
            "detail": self.detail,
        }


def exclude_leaks(
    suite: Suite, report: ContaminationReport | None
) -> tuple[Suite, tuple[Excluded, ...]]:
    """The suite without its leaked cases, and these; no report leaves it as it is."""
    leaks = {leak.case_id: leak for leak in report.leaks} if report is not None else {}
    excluded = tuple(
        Excluded(
            case.id,
            case.segment,
            "contaminated",
            f"line {leak.document} of the training set has Jaccard similarity {leak.jaccard:.3f}",
        )
        for case in suite.cases
        if (leak := leaks.get(case.id)) is not None
    )
    if not excluded:
        return suite, ()
    return replace(suite, cases=tuple(c for c in suite.cases if c.id not in leaks)), excluded


def find_contamination(
    cases: Sequence[Case],
    documents: Iterable[str | TrainingText],
    *,
    rules: ContaminationRules,
    on_progress: Callable[[int], None] | None = None,
) -> ContaminationReport:
    """Compare every case with every document; one pass over `documents`, a few at a time in memory.

    A plain `str` is one document, numbered from 1. The result does not depend on the documents'
    order, but for line numbers. A pair at `rules.jaccard` is missed with the probability
    `rules.banding.miss_probability(rules.jaccard)`; identical texts always are found, and each
    similarity that is reported is exact.

    Args:
        cases: of one suite; what of them is compared is `compared_text.text_of_case`.
        documents: what was trained on, without the answers (`training_set.read_training_set`).
        rules: what counts as similar.
        on_progress: called now and then with the number of documents read so far.
    """
    # Here, because datasketch imports scipy: half a second that only a search should pay.
    from adapters.parity.contamination_search import report_of, search

    return report_of(cases, search(cases, documents, rules=rules, on_progress=on_progress), rules)
