"""What changed between two snapshots, instead of all of the second. Pure; both sides know it.

A promotion changes one version and one alias of thousands. Each item of a snapshot has a hash, and
the sum of all of them, with the revision, is the snapshot's *tag*: it names content, not a place
and a time, so that replicas and restarted controllers name the same thing alike, and whoever
applies a delta knows whether it came out right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import msgspec

from serving.contract import (
    FORMAT,
    AliasEntry,
    EngineKind,
    EngineWishes,
    FleetSnapshot,
    KeyGrant,
    TenantEntry,
    VersionEntry,
    VersionReport,
    VersionState,
)

MEDIA_TYPE = "application/vnd.loraplane.snapshot-delta+json"
TAG_HEADER = "loraplane-snapshot"
"""Of an answer that is a snapshot or leads to one: its tag. Old controllers send none."""
_BITS = 128
_encode = msgspec.json.Encoder().encode

T = TypeVar("T")
Key = tuple[str, ...]
Indexed = dict[Key, tuple[Any, int]]
"""Item and hash by the item's key."""


class DeltaMismatch(ValueError):
    """The delta is of another snapshot, or does not lead where it says: ask for the whole one."""


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """Items to put in place of those with the same key, and keys whose items are gone."""

    put: list[T] = []
    gone: list[list[str]] = []


class SnapshotDelta(msgspec.Struct, frozen=True):
    """Leads from the snapshot with tag `base` to the one with tag `tag`."""

    base: str
    tag: str
    revision: int
    fleet: str
    store_url: str
    versions: Changes[VersionEntry] = Changes()
    aliases: Changes[AliasEntry] = Changes()
    keys: Changes[KeyGrant] = Changes()
    tenants: Changes[TenantEntry] = Changes()
    residency: Changes[EngineWishes] = Changes()
    cleared: list[EngineKind] | None = None
    format: int = FORMAT


def _alias_key(alias: AliasEntry) -> Key:
    return alias.tenant, alias.adapter


def _grant_key(grant: KeyGrant) -> Key:
    # The gate's own, which is nobody's, comes first: as in a compiled snapshot.
    return grant.tenant and "tenant", grant.key_id


_KEYS: dict[str, Callable[[Any], Key]] = {
    "versions": lambda entry: (entry.name,),
    "aliases": _alias_key,
    "keys": _grant_key,
    "tenants": lambda entry: (entry.tenant,),
    "residency": lambda wishes: (wishes.engine,),
}
"""What identifies an item of each list; each list is in the order of these keys."""


@dataclass(frozen=True)
class HeldSnapshot:
    """A snapshot with its items by key and its tag; never changed."""

    snapshot: FleetSnapshot
    tag: str
    parts: Mapping[str, Indexed]

    @classmethod
    def of(cls, snapshot: FleetSnapshot, known: HeldSnapshot | None = None) -> Self:
        """Index a snapshot; items that `known` holds, too, are not hashed again."""
        parts = {}
        for name, key_of in _KEYS.items():
            before = {} if known is None else known.parts[name]
            part: Indexed = {}
            for item in getattr(snapshot, name):
                key = key_of(item)
                found = before.get(key)
                if found is None or (found[0] is not item and found[0] != item):
                    found = (item, _hash(name, item))
                part[key] = found
            parts[name] = part
        return cls(snapshot, _tag(snapshot, parts), parts)

    @cached_property
    def proven(self) -> dict[str, VersionReport]:
        """By name: what an engine reports that has proven everything, with nothing in flight."""
        return {
            entry.name: VersionReport(
                entry.name, entry.digest, VersionState.PROVEN, attempt=entry.attempt
            )
            for entry in self.snapshot.versions
        }

    @cached_property
    def proven_list(self) -> list[VersionReport]:
        """The same, by name, as one list that many reports share."""
        return [self.proven[name] for name in sorted(self.proven)]


def _hash(part: str, item: Any) -> int:
    found = hashlib.blake2b(_encode(item), digest_size=_BITS // 8, person=part.encode())
    return int.from_bytes(found.digest())


def _tag(snapshot: FleetSnapshot, parts: Mapping[str, Indexed]) -> str:
    rest = (snapshot.fleet, snapshot.store_url, snapshot.cleared)
    total = sum(found[1] for part in parts.values() for found in part.values())
    whole = (total + _hash("rest", rest)) % 2**_BITS
    return f"{snapshot.revision}-{whole:032x}"


def diff(before: HeldSnapshot, after: HeldSnapshot) -> SnapshotDelta:
    """What to change in `before` to have `after`."""
    changes: dict[str, Any] = {
        name: _changes(before.parts[name], after.parts[name]) for name in _KEYS
    }
    return SnapshotDelta(
        base=before.tag,
        tag=after.tag,
        revision=after.snapshot.revision,
        fleet=after.snapshot.fleet,
        store_url=after.snapshot.store_url,
        cleared=after.snapshot.cleared,
        **changes,
    )


def _changes(before: Indexed, after: Indexed) -> Changes[Any]:
    put = []
    for key, found in after.items():
        old = before.get(key)
        if old is not found and (old is None or old[1] != found[1]):
            put.append(found[0])
    gone = [list(key) for key in before.keys() - after.keys()]
    return Changes(put, sorted(gone))


def apply(before: HeldSnapshot, delta: SnapshotDelta) -> HeldSnapshot:
    """The snapshot that the delta leads to.

    Raises:
        DeltaMismatch: the delta is of another snapshot, or its result has another tag.
    """
    if delta.base != before.tag:
        raise DeltaMismatch(f"a delta of {delta.base}, this is {before.tag}")
    parts = {name: _changed(before.parts[name], getattr(delta, name), name) for name in _KEYS}
    lists = {name: [part[key][0] for key in sorted(part)] for name, part in parts.items()}
    snapshot = FleetSnapshot(
        revision=delta.revision,
        fleet=delta.fleet,
        store_url=delta.store_url,
        cleared=delta.cleared,
        format=delta.format,
        **lists,
    )
    tag = _tag(snapshot, parts)
    if tag != delta.tag:
        raise DeltaMismatch(f"leads to {tag}, not to {delta.tag}")
    return HeldSnapshot(snapshot, tag, parts)


def _changed(before: Indexed, changes: Changes[Any], name: str) -> Indexed:
    part, key_of = dict(before), _KEYS[name]
    for key in changes.gone:
        part.pop(tuple(key), None)
    for item in changes.put:
        part[key_of(item)] = (item, _hash(name, item))
    return part


def decode_delta(data: bytes) -> SnapshotDelta:
    """Parse a delta.

    Raises:
        msgspec.ValidationError: not a delta, or of a newer format.
    """
    delta = msgspec.json.decode(data, type=SnapshotDelta)
    if delta.format > FORMAT:
        raise msgspec.ValidationError(f"format {delta.format} is newer than {FORMAT}")
    return delta


def encode_delta(delta: SnapshotDelta) -> bytes:
    """JSON bytes."""
    return _encode(delta)
