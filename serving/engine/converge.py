"""What an engine should do next: desired and observed state in, actions out. Pure.

Level-triggered: a plan depends on nothing but its arguments, so a lost message, a crash in the
middle of an action or a restart needs no special case. The neighbour that acts is `agent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from serving.contract import FleetSnapshot, Role, VersionEntry


class Stage(StrEnum):
    """How far a version has come in this life of the engine."""

    ABSENT = "absent"
    """Known by name; nothing has been achieved yet, or not since the last failure."""
    LOADED = "loaded"
    """Read and strictly checked by the engine."""
    PROVEN = "proven"
    """Loaded, and its probe passed."""
    FAILED = "failed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class LocalVersion:
    """One version, as this engine knows it."""

    name: str
    digest: str
    stage: Stage = Stage.ABSENT
    attempt: int = 0
    """The attempt that the stage belongs to."""
    is_in_engine: bool = False
    """The engine may hold memory for it, or a name and a path."""
    in_flight: int = 0
    retry_at: float | None = None
    """Nothing is tried before this moment (seconds on the clock of `plan`'s `now`)."""


@dataclass(frozen=True, slots=True)
class LocalState:
    """Everything that a plan depends on beside the snapshot."""

    followed_revision: int = -1
    verified: frozenset[str] = frozenset()
    """Digests whose local bytes were checked in this life of the engine."""
    on_disk: frozenset[str] = frozenset()
    """Digests with a local folder, checked or not."""
    versions: Mapping[str, LocalVersion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FollowAliases:
    """Resolve by this snapshot from now on; a target that is not proven is answered with 503."""

    revision: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Have the artifact's verified bytes on disk, for the sake of `name`."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Load:
    """Have the engine read and strictly check the version."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Compare the loaded version's answers with the gate's."""

    name: str


@dataclass(frozen=True, slots=True)
class Reprobe:
    """Ask a proven version again; no plan holds it: the agent starts it when nothing else runs."""

    name: str


@dataclass(frozen=True, slots=True)
class Abort:
    """End the requests of a quarantined version; their answers would be noise."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Free the engine's memory; `is_forgotten`: our record too. Only planned at 0 in flight."""

    name: str
    is_forgotten: bool


@dataclass(frozen=True, slots=True)
class ForgetArtifact:
    """Delete the local bytes; no version needs them."""

    digest: str


Action = FollowAliases | Fetch | Load | Probe | Reprobe | Abort | Remove | ForgetArtifact


def plan(desired: FleetSnapshot, observed: LocalState, now: float) -> tuple[Action, ...]:
    """The actions that may start now, most urgent first; empty when the engine has converged.

    Alias targets come before other serving versions, and candidates last, so that a candidate never
    delays anybody's traffic. A failed version waits for its `retry_at` and delays nobody else.
    """
    actions: list[Action] = []
    if desired.revision > observed.followed_revision:
        actions.append(FollowAliases(desired.revision))
    wanted = {entry.name: entry for entry in desired.versions}
    for name, version in observed.versions.items():
        if name not in wanted and version.in_flight == 0:
            actions.append(Remove(name, is_forgotten=True))
    for entry in by_urgency(desired):
        version = observed.versions.get(entry.name) or LocalVersion(entry.name, entry.digest)
        actions.extend(_advance(entry, version, observed.verified, now))
    needed = {entry.digest for entry in desired.versions}
    needed |= {version.digest for version in observed.versions.values()}
    actions.extend(ForgetArtifact(digest) for digest in sorted(observed.on_disk - needed))
    return _each_once(actions)


def by_urgency(desired: FleetSnapshot) -> list[VersionEntry]:
    """Alias targets, then other serving versions, then candidates; by name within each."""
    targets = {(alias.tenant, alias.adapter, alias.number) for alias in desired.aliases}

    def urgency(entry: VersionEntry) -> tuple[int, str]:
        if entry.role is not Role.SERVING:
            return 2, entry.name
        return int((entry.tenant, entry.adapter, entry.number) not in targets), entry.name

    return sorted(desired.versions, key=urgency)


def is_settled(entry: VersionEntry, version: LocalVersion | None) -> bool:
    """Whether this version is as good as wanted: proven, or loaded for a candidate."""
    if version is None or version.digest != entry.digest:
        return False
    if version.stage is Stage.PROVEN:
        return True
    return version.stage is Stage.LOADED and entry.role is Role.CANDIDATE


def _advance(
    entry: VersionEntry, version: LocalVersion, verified: frozenset[str], now: float
) -> Iterator[Action]:
    if version.digest != entry.digest:
        # The name once meant other bytes (a registry restored from a backup): the old ones leave
        # the engine first, because it knows an adapter by its name.
        if version.in_flight == 0:
            yield Remove(entry.name, is_forgotten=True)
        return
    is_bad = version.stage in (Stage.FAILED, Stage.QUARANTINED)
    if is_bad and version.is_in_engine:
        if version.in_flight == 0:
            yield Remove(entry.name, is_forgotten=False)
        elif version.stage is Stage.QUARANTINED:
            yield Abort(entry.name)
    elif not is_settled(entry, version) and _may_try(entry, version, now):
        yield _next_step(entry, version, verified)


def _may_try(entry: VersionEntry, version: LocalVersion, now: float) -> bool:
    is_bad = version.stage in (Stage.FAILED, Stage.QUARANTINED)
    if is_bad and entry.attempt > version.attempt:
        return True
    if version.stage is Stage.QUARANTINED:
        return False
    return version.retry_at is None or now >= version.retry_at


def _next_step(
    entry: VersionEntry, version: LocalVersion, verified: frozenset[str]
) -> Fetch | Load | Probe:
    if entry.digest not in verified:
        return Fetch(entry.name, entry.digest)
    if version.stage is Stage.LOADED:
        return Probe(entry.name)
    return Load(entry.name, entry.digest)


def _each_once(actions: list[Action]) -> tuple[Action, ...]:
    """Two versions may be the same bytes: one fetch serves both."""
    fetched: set[str] = set()
    result: list[Action] = []
    for action in actions:
        if isinstance(action, Fetch):
            if action.digest in fetched:
                continue
            fetched.add(action.digest)
        result.append(action)
    return tuple(result)
