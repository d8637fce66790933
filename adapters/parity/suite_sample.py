"""Stratified samples of a suite, and cases from recorded traffic. Pure: the seed decides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.parity.suite import DEFAULT_SEGMENT, MAX_POOL_BYTES, Suite, build_suite, iter_lines
from adapters.parity.suite_fields import MAX_TOKENS_LIMIT, content_id, read_object

FLOOR_PER_SEGMENT = 20
"""As many as it takes to gate a segment by itself."""
_CASE_FIELDS = ("messages", "prompt", "tools", "segment")


@dataclass(frozen=True, slots=True)
class SegmentSample:
    """How many cases of a segment there are, and how many were drawn."""

    segment: str
    n_cases: int
    n_sampled: int
    is_floor_met: bool

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "segment": self.segment,
            "n_cases": self.n_cases,
            "n_sampled": self.n_sampled,
            "is_floor_met": self.is_floor_met,
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample, with a row for each segment in the order in which they first appear."""

    suite: Suite
    segments: tuple[SegmentSample, ...]
    floor_per_segment: int
    seed: int

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each segment that has fewer cases than the floor, and why."""
        return tuple(self._note(row) for row in self.segments if not row.is_floor_met)

    def _note(self, row: SegmentSample) -> str:
        if row.n_sampled == row.n_cases:
            why = "the suite has no more"
        else:
            why = f"a sample of {len(self.suite.cases)} is too small for the floor in all segments"
        return (
            f"Segment {row.segment!r} has {row.n_sampled} of the {self.floor_per_segment} cases "
            f"that it should have: {why}."
        )


def sample_suite(
    suite: Suite, n: int, *, floor_per_segment: int = FLOOR_PER_SEGMENT, seed: int
) -> Sample:
    """Draw `n` cases (all, if there are no more), each segment by its share and at least its floor.

    Seats are given in proportion to the segments' sizes by largest remainder, after every segment
    whose share is below the floor got the floor, or all its cases if it has fewer. Where `n` is
    too small for all floors, the floors themselves are shared out in proportion. Cases keep the
    order of the file. Within a segment the cases with the smallest hash of seed and id are drawn,
    so that a larger sample with the same seed holds the smaller one wherever its segment grew.

    Raises:
        ValueError: `n` or the floor is below 1, respectively 0.
    """
    if n < 1 or floor_per_segment < 0:
        raise ValueError(f"n is {n}, floor_per_segment is {floor_per_segment}")
    sizes = Counter(case.segment for case in suite.cases)
    seats = allocate(sizes, min(n, len(suite.cases)), floor=floor_per_segment)
    ids_by_segment: dict[str, list[str]] = {segment: [] for segment in sizes}
    for case in suite.cases:
        ids_by_segment[case.segment].append(case.id)
    drawn: set[str] = set()
    for segment, ids in ids_by_segment.items():
        drawn.update(sorted(ids, key=lambda case_id: _draw(seed, case_id))[: seats[segment]])
    return Sample(
        suite=Suite(tuple(case for case in suite.cases if case.id in drawn)),
        segments=tuple(
            SegmentSample(segment, size, seats[segment], seats[segment] >= floor_per_segment)
            for segment, size in sizes.items()
        ),
        floor_per_segment=floor_per_segment,
        seed=seed,
    )


def allocate(sizes: Mapping[str, int], n: int, *, floor: int) -> dict[str, int]:
    """Seats for each segment, `n` in all; never more than a segment has cases.

    Args:
        sizes: cases in each segment.
        n: at most the sum of the sizes.
        floor: seats that no segment falls below, as far as its size and `n` allow.
    """
    floors = {segment: min(floor, size) for segment, size in sizes.items()}
    if sum(floors.values()) >= n:
        return _in_proportion(floors, n)
    seats: dict[str, int] = {}
    # A floor takes seats from the others, which may push the next segment below its own.
    while True:
        rest = {segment: size for segment, size in sizes.items() if segment not in seats}
        n_rest, total = n - sum(seats.values()), sum(rest.values())
        below = [s for s, size in rest.items() if n_rest * size < floors[s] * total]
        if not below:
            return {**sizes, **seats, **_in_proportion(rest, n_rest)}
        seats.update({segment: floors[segment] for segment in below})


def _in_proportion(weights: Mapping[str, int], n: int) -> dict[str, int]:
    """Largest remainder (Hamilton), in whole numbers; the earlier segment wins a tie.

    No seat exceeds its weight where `n` is at most the sum of the weights: a share is then at
    most its weight, and a whole share has no remainder to be rounded up for.
    """
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(weights, 0)
    seats = {segment: n * weight // total for segment, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda segment: -(n * weights[segment] % total))
    for segment in by_remainder[: n - sum(seats.values())]:
        seats[segment] += 1
    return seats


def read_traffic(
    data: bytes, *, segment: str = DEFAULT_SEGMENT, max_tokens: int | None = None
) -> Suite:
    """Cases without gold from recorded requests: `{"messages" | "prompt", "tools"?, ...}` a line.

    `segment` and `max_tokens` are kept where a request has them; whatever else a request holds
    (model, temperature, ...) is left out. An id is made from the content, so that it is the same
    in every recording; exact duplicates are left out. There may be more of them than a suite holds:
    draw a sample.

    Args:
        data: JSON lines.
        segment: for requests without their own.
        max_tokens: for all requests; None: their own, or a suite's default.

    Raises:
        SuiteInvalid: with line, field, problem and fix.
    """
    return build_suite(_traffic_rows(data, segment, max_tokens), max_cases=None)


def _traffic_rows(
    data: bytes, segment: str, max_tokens: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    seen: set[str] = set()
    for line, text in iter_lines(data, max_bytes=MAX_POOL_BYTES):
        raw = read_object(line, text)
        # An API client may write `"tools": null`; in a suite that is refused.
        row = {name: raw[name] for name in _CASE_FIELDS if raw.get(name) is not None}
        row.setdefault("segment", segment)
        row["id"] = content_id("traffic", row)
        limit = max_tokens or raw.get("max_completion_tokens") or raw.get("max_tokens")
        if limit is not None:
            # Clients ask for more than a suite may; an answer that long is none to compare.
            row["max_tokens"] = min(limit, MAX_TOKENS_LIMIT) if isinstance(limit, int) else limit
        if row["id"] not in seen:
            seen.add(row["id"])
            yield line, row


def _draw(seed: int, case_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{case_id}".encode()).digest()
