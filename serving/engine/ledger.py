"""What this engine knows of each version in this life; the agent writes it, everybody reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.contract import FleetSnapshot, VersionEntry, VersionReport, VersionState
from serving.engine.converge import LocalVersion, Stage, is_settled
from serving.engine.reprobe import LastProbe


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause before the next try: `first_seconds`, doubled per failure, up to `last_seconds`."""

    first_seconds: float
    last_seconds: float

    def pause(self, n_failures: int) -> float:
        """Seconds to wait after the n-th failure in a row, n >= 1."""
        doublings = min(n_failures - 1, 20)
        return min(self.first_seconds * float(2**doublings), self.last_seconds)


TRANSIENT = Backoff(1.0, 30.0)
"""Somebody else did not answer."""
REFUSED = Backoff(30.0, 600.0)
"""The adapter itself is bad; tried again, because a bad read looks the same."""

PATIENCE = 4
"""Holds in a row after which a version counts as tried. Arbitrary: with the pauses of `TRANSIENT`
at least 7 s, longer than a busy start needs and short where the store is away."""

_BAD = (Stage.FAILED, Stage.QUARANTINED)


@dataclass(slots=True)
class _Record:
    name: str
    digest: str
    stage: Stage = Stage.ABSENT
    attempt: int = 0
    is_in_engine: bool = False
    n_failures: int = 0
    n_holds: int = 0
    """Of those failures, the ones that were somebody else's."""
    retry_at: float | None = None
    reason: str | None = None
    detail: str | None = None
    activity: VersionState | None = None
    probed_at: float | None = None
    n_probes: int = 0


class Ledger:
    """Mutable; used from one event loop. `n_changes` grows with every change worth a report."""

    def __init__(self) -> None:
        self.n_changes = 0
        self.usable: frozenset[str] = frozenset()
        """Names of the followed snapshot that may answer requests."""
        self._records: dict[str, _Record] = {}
        self._entries: dict[str, VersionEntry] = {}

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Take over the desired versions; what is known of others stays until it is removed."""
        self._entries = {entry.name: entry for entry in snapshot.versions}
        self._changed()

    def versions(self, in_flight: Callable[[str], int]) -> dict[str, LocalVersion]:
        """What `plan` needs."""
        return {
            record.name: LocalVersion(
                name=record.name,
                digest=record.digest,
                stage=record.stage,
                attempt=record.attempt,
                is_in_engine=record.is_in_engine,
                in_flight=in_flight(record.name),
                retry_at=record.retry_at,
            )
            for record in self._records.values()
        }

    def begin(self, entry: VersionEntry, activity: VersionState) -> None:
        """Work on this version has started; a new attempt starts with a clean record."""
        record = self._record(entry)
        if entry.attempt > record.attempt:
            self._clear_failures(record)
            if record.stage in _BAD:
                record.stage, record.retry_at = Stage.ABSENT, None
        record.attempt, record.activity = entry.attempt, activity
        if activity is VersionState.LOADING:
            record.is_in_engine = True
        self._changed()

    def end(self, entry: VersionEntry) -> None:
        """Work has ended, whatever came out."""
        record = self._records.get(entry.name)
        if record is not None:
            record.activity = None
            self._changed()

    def reached(self, entry: VersionEntry, stage: Stage) -> None:
        """The version is loaded, or proven; once it is usable, earlier failures don't count."""
        record = self._record(entry)
        if record.stage is Stage.QUARANTINED:
            return
        record.stage, record.attempt, record.is_in_engine = stage, entry.attempt, True
        record.retry_at = None
        if is_settled(entry, LocalVersion(record.name, record.digest, stage)):
            self._clear_failures(record)
        self._changed()

    def hold(self, entry: VersionEntry, reason: str, detail: str, *, now: float) -> None:
        """Somebody else did not answer: the version keeps its stage and is tried again soon."""
        record = self._record(entry)
        self._note_failure(record, reason, detail)
        record.n_holds += 1
        record.retry_at = now + TRANSIENT.pause(record.n_failures)
        self._changed()

    def fail(
        self,
        entry: VersionEntry,
        reason: str,
        detail: str,
        *,
        now: float,
        backoff: Backoff = REFUSED,
    ) -> None:
        """The version itself is bad."""
        record = self._record(entry)
        if record.stage is Stage.QUARANTINED:
            return
        self._note_failure(record, reason, detail)
        record.stage, record.retry_at = Stage.FAILED, now + backoff.pause(record.n_failures)
        self._changed()

    def probed(self, name: str, *, now: float) -> None:
        """A probe of this version has been answered, or was not; the next one waits."""
        record = self._records.get(name)
        if record is not None:
            record.probed_at, record.n_probes = now, record.n_probes + 1

    def reread(self, name: str) -> None:
        """Its bytes were read from disk: what was proven before may not be what is there now."""
        record = self._records.get(name)
        if record is not None:
            record.probed_at = None

    def proven(self) -> list[LastProbe]:
        """Versions that answer requests, with their latest probe."""
        return [
            LastProbe(record.name, record.probed_at, record.n_probes)
            for record in self._records.values()
            if record.stage is Stage.PROVEN and record.name in self.usable
        ]

    def quarantine(self, name: str, detail: str, *, reason: str = "non_finite") -> bool:
        """Take a version out of service; true when it was not so before."""
        record = self._records.get(name)
        if record is None or record.stage is Stage.QUARANTINED:
            return False
        self._note_failure(record, reason, detail)
        record.stage, record.is_in_engine = Stage.QUARANTINED, True
        self._changed()
        return True

    def removed(self, name: str, *, is_forgotten: bool) -> None:
        """The engine holds nothing of this version any more."""
        record = self._records.get(name)
        if record is None:
            return
        record.is_in_engine = False
        if is_forgotten:
            del self._records[name]
        self._changed()

    def digest_of(self, name: str) -> str:
        """The bytes that this name means here; known until it is removed."""
        return self._records[name].digest

    def was_tried(self, name: str) -> bool:
        """Whether this version has come to an end, good or bad, at least once.

        One that is held is not there yet: an engine that called itself ready in that moment would
        turn its tenant away. It counts after `PATIENCE` holds, so that no store keeps the others'
        tenants waiting.
        """
        record, entry = self._records.get(name), self._entries.get(name)
        if record is None or entry is None:
            return False
        is_bad = record.stage in _BAD
        was_judged = record.n_failures > record.n_holds or record.n_holds >= PATIENCE
        return name in self.usable or is_bad or was_judged

    def next_retry(self) -> float | None:
        """The earliest moment at which a waiting version may be tried again."""
        times = [record.retry_at for record in self._records.values() if record.retry_at]
        return min(times, default=None)

    def reports(self, in_flight: Callable[[str], int]) -> list[VersionReport]:
        """One per desired version, and one per other version that the engine still holds."""
        names = sorted(self._entries.keys() | self._records.keys())
        return [self._report(name, in_flight(name)) for name in names]

    def _report(self, name: str, in_flight: int) -> VersionReport:
        entry, record = self._entries.get(name), self._records.get(name)
        if record is None:
            assert entry is not None  # noqa: S101 - the names are the union of the two
            record = _Record(name, entry.digest)
        state = self._state(name, record)
        is_bad = state in (VersionState.FAILED, VersionState.QUARANTINED)
        return VersionReport(
            name=name,
            digest=record.digest,
            state=state,
            reason=record.reason,
            detail=record.detail,
            in_flight=in_flight,
            attempt=record.attempt if is_bad or entry is None else entry.attempt,
        )

    def _state(self, name: str, record: _Record) -> VersionState:
        if record.stage is Stage.QUARANTINED and record.activity is None:
            return VersionState.QUARANTINED
        if name in self.usable:
            return VersionState.PROVEN
        if record.activity is not None:
            return record.activity
        if record.stage is Stage.FAILED:
            return VersionState.FAILED
        if record.stage is Stage.ABSENT:
            return VersionState.PENDING
        return VersionState.LOADING if name in self._entries else VersionState.PROVEN

    def _record(self, entry: VersionEntry) -> _Record:
        record = self._records.get(entry.name)
        if record is None:
            record = self._records[entry.name] = _Record(
                entry.name, entry.digest, attempt=entry.attempt
            )
        return record

    @staticmethod
    def _clear_failures(record: _Record) -> None:
        record.n_failures = record.n_holds = 0
        record.reason, record.detail = None, None

    @staticmethod
    def _note_failure(record: _Record, reason: str, detail: str) -> None:
        record.n_failures += 1
        record.reason, record.detail = reason, detail[:500]

    def _changed(self) -> None:
        self.n_changes += 1
        self.usable = frozenset(
            entry.name for entry in self._entries.values() if self._is_usable(entry)
        )

    def _is_usable(self, entry: VersionEntry) -> bool:
        record = self._records.get(entry.name)
        if record is None:
            return False
        return is_settled(entry, LocalVersion(record.name, record.digest, record.stage))
