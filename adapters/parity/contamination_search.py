"""From cases and documents to a report; parts of a training set may be searched apart and merged.

Pure. `find_contamination` is the door for one process, `contamination_process` for several.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from adapters.parity.compared_text import text_of_case
from adapters.parity.contamination import (
    ContaminationReport,
    ContaminationRules,
    Leak,
    SweepRow,
    TrainingText,
    fraction_of,
)
from adapters.parity.near_duplicates import NearDuplicates
from adapters.parity.suite import Case

_PROGRESS_EVERY = 1000


class Match(NamedTuple):
    """A case and its most similar document."""

    case: int
    """Index in the suite."""
    line: int
    jaccard: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What one part of a training set has in common with a suite."""

    matches: tuple[Match, ...]
    n_documents: int
    n_plain: int
    n_without_text: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` is the inverse."""
        return {**asdict(self), "matches": [list(match) for match in self.matches]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Findings:
        """What `to_json` wrote."""
        return cls(**{**raw, "matches": tuple(Match(*item) for item in raw["matches"])})


def search(
    cases: Sequence[Case],
    documents: Iterable[str | TrainingText],
    *,
    rules: ContaminationRules,
    on_progress: Callable[[int], None] | None = None,
) -> Findings:
    """Each case's most similar document at or above `rules.lowest`; see `find_contamination`."""
    index = NearDuplicates([text_of_case(case) for case in cases], rules)
    counts = _Counts()
    for text in counts.over(documents, on_progress):
        index.read(text.line, text.text)
    return Findings(
        tuple(Match(*match) for match in index.matches()),
        counts.n_documents,
        counts.n_plain,
        index.n_without_text,
    )


def merge(parts: Sequence[Findings]) -> Findings:
    """The findings of disjoint parts as if they had been searched in one go."""
    best: dict[int, Match] = {}
    for match in (match for part in parts for match in part.matches):
        known = best.setdefault(match.case, match)
        if (-match.jaccard, match.line) < (-known.jaccard, known.line):
            best[match.case] = match
    return Findings(
        tuple(best[case] for case in sorted(best)),
        sum(part.n_documents for part in parts),
        sum(part.n_plain for part in parts),
        parts[0].n_without_text,
    )


def report_of(
    cases: Sequence[Case], findings: Findings, rules: ContaminationRules
) -> ContaminationReport:
    """The report on a suite."""
    found = [Leak(cases[match.case].id, match.line, match.jaccard) for match in findings.matches]
    values = sorted(leak.jaccard for leak in found)
    leaks = [leak for leak in found if leak.jaccard >= rules.jaccard]
    at_least = {t: len(values) - bisect.bisect_left(values, t) for t in rules.sweep}
    return ContaminationReport(
        n_cases=len(cases),
        n_documents=findings.n_documents,
        rules=rules,
        leaks=tuple(sorted(leaks, key=lambda leak: (-leak.jaccard, leak.case_id))),
        sweep=tuple(SweepRow(t, n, fraction_of(n, len(cases))) for t, n in at_least.items()),
        n_without_text=findings.n_without_text,
        n_plain_documents=findings.n_plain,
    )


@dataclass
class _Counts:
    n_documents: int = 0
    n_plain: int = 0
    _last_line: int | None = None

    def over(
        self, documents: Iterable[str | TrainingText], on_progress: Callable[[int], None] | None
    ) -> Iterator[TrainingText]:
        """The documents as texts with lines, counted while they pass."""
        for number, document in enumerate(documents, start=1):
            text = TrainingText(number, document) if isinstance(document, str) else document
            if text.line != self._last_line:
                self._last_line = text.line
                self.n_documents += 1
                self.n_plain += text.is_plain
                if on_progress is not None and self.n_documents % _PROGRESS_EVERY == 0:
                    on_progress(self.n_documents)
            yield text
