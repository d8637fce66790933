"""Which adapters are sent, what was learnt so far, and what breaks a claim.

A finished row is one line of the state file, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.zoo.bad import BAD, BadKind
from bench.zoo.good import GOOD
from bench.zoo.outcome import Outcome, Place
from bench.zoo.sources import RANKS

_COULD_NOT_JUDGE = frozenset({"reference_failed", "suite_invalid", "engine_unreachable"})


@dataclass(frozen=True, slots=True)
class Task:
    """One adapter to send. `rank` 0: a good one, whose recipe says it."""

    base: str
    dtype: str
    kind: str
    rank: int
    has_fingerprint: bool

    @property
    def key(self) -> str:
        """`tiny/float32/sign_of_b_flipped/r16/vouched`."""
        vouched = "vouched" if self.has_fingerprint else "alone"
        return f"{self.base}/{self.dtype}/{self.kind}/r{self.rank}/{vouched}"

    @property
    def is_bad(self) -> bool:
        """Whether it has to be caught."""
        return self.rank > 0


@dataclass(frozen=True, slots=True)
class Row:
    """One finished task."""

    task: Task
    outcome: Outcome
    seconds: float

    @property
    def complaint(self) -> str | None:
        """Why this breaks what is claimed; None: as claimed."""
        outcome = self.outcome
        if not self.task.is_bad:
            if outcome.state in {"passed", "live"}:
                return None
            return f"a good adapter is {outcome.state}: {', '.join(outcome.codes)}"
        kind = BAD[self.task.kind]
        wanted = kind.named_by if self.task.has_fingerprint else kind.alone
        if not _COULD_NOT_JUDGE.isdisjoint(outcome.codes):
            return f"not judged: {outcome.detail}"
        if not wanted:
            return None
        if not outcome.is_caught:
            return f"{outcome.state}, though its kind is caught"
        if wanted.isdisjoint(outcome.codes):
            return f"{', '.join(outcome.codes)} does not name the cause ({', '.join(wanted)})"
        return None

    def to_json(self) -> dict[str, Any]:
        """For the state file and the results."""
        return {
            **asdict(self.task),
            **asdict(self.outcome),
            "seconds": round(self.seconds, 2),
            "complaint": self.complaint,
        }


def row_of_json(data: Mapping[str, Any]) -> Row:
    """The inverse of `Row.to_json`."""
    task = Task(**{name: data[name] for name in Task.__dataclass_fields__})
    fields = {name: data[name] for name in Outcome.__dataclass_fields__}
    fields["place"], fields["codes"] = Place(fields["place"]), tuple(fields["codes"])
    return Row(task, Outcome(**fields), data["seconds"])


def plan(
    base: str, dtypes: Iterable[str], *, kinds: Iterable[str] = (), ranks: Iterable[int] = RANKS
) -> list[Task]:
    """Everything to send, those that end at the files first; `kinds` narrows it down.

    Where the fingerprint is what names a kind, it is sent with and without one.
    """
    wanted, ranks = set(kinds) or {*BAD, *GOOD}, tuple(ranks)
    tasks = []
    for dtype in dtypes:
        bad = [BAD[name] for name in BAD if name in wanted]
        for kind in sorted(bad, key=lambda item: item.needs_fingerprint):
            for has_fingerprint in _evidence(kind):
                tasks += [Task(base, dtype, kind.name, rank, has_fingerprint) for rank in ranks]
        good = [name for name in GOOD if name in wanted]
        # Every second one comes with evidence: both ways have to pass.
        tasks += [Task(base, dtype, name, 0, i % 2 == 0) for i, name in enumerate(good)]
    return tasks


def _evidence(kind: BadKind) -> tuple[bool, ...]:
    return (True, False) if kind.needs_fingerprint else (False,)


class State:
    """The rows that are finished, kept in a file of one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, Row] = {row.task.key: row for row in _read(path)}

    def add(self, row: Row) -> None:
        """Keep a row; a later one of the same task replaces it."""
        self.rows[row.task.key] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row.to_json()) + "\n")

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        """Tasks without a row."""
        return [task for task in tasks if task.key not in self.rows]


def _read(path: Path) -> Iterator[Row]:
    if path.is_file():
        for line in path.read_text().splitlines():
            yield row_of_json(json.loads(line))
