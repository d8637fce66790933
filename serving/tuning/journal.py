"""The record of a search: JSON lines in its work folder, each on the disk before the next begins.

The first line says what is measured: base, profile, load, versions, machine. A search goes on from
the record only where all of that is unchanged; rounds of two machines are no rounds of one. What
is asked of the rounds (goals, axes, budget) may change, and is not in it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.durable import sync_folder
from serving.tuning.race import Round
from serving.tuning.search import Costs, State
from serving.tuning.space import Setting

FILE = "journal.jsonl"
FORMAT = 1
_FIELDS = {
    "start": (), "round": ("number", "values"), "stop": (), "failed": ("reason",), "retry": (),
}  # fmt: skip
"""By event, what it has besides its setting and its seconds."""


class JournalError(Exception):
    """A record that a search cannot go on from; the text names the fix."""


class JournalBusy(JournalError):
    """Another search writes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in use by another search: name another --work folder")


class JournalBroken(JournalError):
    """Not a record, or one with a hole in it."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}; name another --work folder")


class JournalOfOther(JournalError):
    """A record of something else; `changed` names what, and how it was and is."""

    def __init__(self, path: Path, changed: Mapping[str, tuple[Any, Any]]) -> None:
        self.changed = dict(changed)
        told = "; ".join(f"{name} was {_short(was)}, is {_short(now)}"
                         for name, (was, now) in self.changed.items())  # fmt: skip
        super().__init__(
            f"{path} holds rounds of something else: {told}. Name another --work folder, or remove "
            "this one to measure anew."
        )


@dataclass
class Journal:
    """An open record; `events` are those so far."""

    path: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _descriptor: int = -1

    def append(self, event: Mapping[str, Any]) -> None:
        """Put one event on the disk.

        Raises:
            OSError: the disk refuses it.
        """
        line = (json.dumps(_without_nan(event), sort_keys=True) + "\n").encode()
        size = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) < len(line):
            # Half a line would make one with the next.
            os.ftruncate(self._descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fsync(self._descriptor)
        self.events.append(json.loads(line))

    def retry(self, settings: Iterable[Setting]) -> None:
        """Forget that engines of these settings failed; the time that it took stays spent.

        Raises:
            OSError: the disk refuses it.
        """
        for setting in settings:
            self.append({"event": "retry", "setting": setting.to_json(), "seconds": 0.0})

    def state(self, assumed: Costs, *, running: Setting | None = None) -> State:
        """What was done so far; `assumed` costs where none were seen yet."""
        return state_of(self.events, assumed, running=running)


@contextmanager
def open_journal(folder: Path, subject: Mapping[str, Any]) -> Iterator[Journal]:
    """The record in `folder`, new or gone on with, held until the block ends.

    A last line that was cut by a kill is dropped: what it told of was not finished.

    Raises:
        JournalError: busy, broken, or of another subject.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalBusy(path) from None
        sync_folder(folder)
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        os.ftruncate(descriptor, len(kept))
        journal = Journal(path, _parse(path, kept), descriptor)
        _match(journal, subject)
        yield journal
    finally:
        os.close(descriptor)


def read_events(
    folder: Path, subject: Callable[[], Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The events of a record that nobody needs to hold; none without a record.

    Raises:
        JournalBroken: it is none.
        JournalOfOther: it is not of the subject, where one is given.
    """
    path = folder / FILE
    if not path.exists():
        return []
    whole = path.read_bytes()
    journal = Journal(path, _parse(path, whole[: whole.rfind(b"\n") + 1]))
    if journal.events and subject is not None:
        _match(journal, subject())
        return journal.events
    return journal.events[1:]


def _match(journal: Journal, subject: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps({"format": FORMAT, **_without_nan(subject)}, sort_keys=True))
    if not journal.events:
        journal.append({"event": "subject", **wanted})
        journal.events.clear()
        return
    first = journal.events.pop(0)
    found = {name: value for name, value in first.items() if name != "event"}
    changed = {
        name: (found.get(name), wanted.get(name))
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    }
    if changed:
        raise JournalOfOther(journal.path, changed)


def _parse(path: Path, text: bytes) -> list[dict[str, Any]]:
    events = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError as exc:
            raise JournalBroken(path, number, "is not JSON") from exc
        if not isinstance(event, dict) or (event.get("event") == "subject") != (number == 1):
            raise JournalBroken(path, number, "is no line of a search's record")
        if number > 1 and not _is_event(event):
            raise JournalBroken(path, number, "is no event of a search")
        events.append(event)
    return events


def _is_event(event: Mapping[str, Any]) -> bool:
    wanted = _FIELDS.get(str(event.get("event")))
    return wanted is not None and {"seconds", "setting", *wanted} <= event.keys()


def state_of(
    events: list[dict[str, Any]], assumed: Costs, *, running: Setting | None = None
) -> State:
    """Rounds, failures, time spent and what the next steps will take, from a record's events."""
    rounds: list[Round] = []
    failed: dict[Setting, str] = {}
    spent: dict[str, list[float]] = {name: [] for name in _FIELDS}
    for event in events:
        kind, seconds = event["event"], float(event["seconds"])
        spent[kind].append(seconds)
        if kind == "round":
            values = {k: math.nan if v is None else float(v) for k, v in event["values"].items()}
            setting = Setting.from_json(event["setting"])
            rounds.append(Round(setting, int(event["number"]), values, seconds))
        elif kind == "failed":
            failed[Setting.from_json(event["setting"])] = str(event["reason"])
        elif kind == "retry":
            failed.pop(Setting.from_json(event["setting"]), None)
    costs = Costs(
        start=_mean(spent["start"]) + _mean(spent["stop"]) if spent["start"] else assumed.start,
        round=_mean(spent["round"]) if spent["round"] else assumed.round,
    )
    total = sum(sum(seconds) for seconds in spent.values())
    return State(tuple(rounds), failed, total, costs, running)


def _mean(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds) if seconds else 0.0


def _without_nan(value: Any) -> Any:
    """JSON has no word for NaN."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
