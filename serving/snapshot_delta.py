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
from typing import Any, Generic, NamedTuple, Self, TypeVar

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


class Indexed(NamedTuple):
    """An item of a snapshot, with what is made of it once for all snapshots that share it."""

    item: Any
    hash: int
    key: Key
    proven: VersionReport | None
    """Of a version: what an engine reports that has proven it, with nothing in flight."""


Index = dict[Key, Indexed]


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
    parts: Mapping[str, Index]
    sums: Mapping[str, int]
    """Of the items' hashes, by part."""

    @classmethod
    def of(cls, snapshot: FleetSnapshot, known: HeldSnapshot | None = None) -> Self:
        """Index a snapshot; what `known` holds, too, is neither hashed nor kept again."""
        parts: dict[str, Index] = {}
        lists: dict[str, list[Any]] = {}
        sums: dict[str, int] = {}
        for name in _KEYS:
            items = getattr(snapshot, name)
            before = {} if known is None else known.parts[name]
            if known is not None and items is getattr(known.snapshot, name):
                lists[name], parts[name] = items, before
            else:
                lists[name], parts[name] = _index(name, items, before)
            if known is not None and parts[name] is before:
                sums[name] = known.sums[name]
            else:
                sums[name] = _sum(parts[name])
        shared = msgspec.structs.replace(snapshot, **lists)
        return cls(shared, _tag(shared, sums), parts, sums)

    @cached_property
    def proven(self) -> dict[str, VersionReport]:
        """By name: what an engine reports that has proven everything, with nothing in flight."""
        return {report.name: report for report in self.proven_list}

    @cached_property
    def proven_list(self) -> list[VersionReport]:
        """The same, by name, as one list that many reports share."""
        found = (indexed.proven for indexed in self.parts["versions"].values())
        return sorted((report for report in found if report is not None), key=_name)


def _name(report: VersionReport) -> str:
    return report.name


def _index(part: str, items: list[Any], before: Index) -> tuple[list[Any], Index]:
    """The items, and by key what is made of them.

    `before` itself where nothing is different, and the list itself where its items are those of the
    index: both are kept many times over, and what is the same object need not be compared.
    """
    index: Index = {}
    key_of, is_same, is_shared = _KEYS[part], len(items) == len(before), True
    for item in items:
        found = before.get(key_of(item))
        if found is None or (found.item is not item and found.item != item):
            found, is_same = _indexed(part, item), False
        elif found.item is not item:
            is_shared = False
        index[found.key] = found
    is_shared = is_shared and len(index) == len(items)
    shared = items if is_shared else [found.item for found in index.values()]
    return shared, before if is_same else index


def _indexed(part: str, item: Any) -> Indexed:
    proven = None
    if part == "versions":
        proven = VersionReport(item.name, item.digest, VersionState.PROVEN, attempt=item.attempt)
    return Indexed(item, _hash(part, item), _KEYS[part](item), proven)


def _hash(part: str, item: Any) -> int:
    found = hashlib.blake2b(_encode(item), digest_size=_BITS // 8, person=part.encode())
    return int.from_bytes(found.digest())


def _sum(index: Index) -> int:
    return sum(found.hash for found in index.values())


def _tag(snapshot: FleetSnapshot, sums: Mapping[str, int]) -> str:
    rest = (snapshot.fleet, snapshot.store_url, snapshot.cleared)
    whole = (sum(sums.values()) + _hash("rest", rest)) % 2**_BITS
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


def _changes(before: Index, after: Index) -> Changes[Any]:
    if before is after:
        return Changes()
    put = []
    for key, found in after.items():
        old = before.get(key)
        if old is not found and (old is None or old.hash != found.hash):
            put.append(found.item)
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
    lists = {name: [part[key].item for key in sorted(part)] for name, part in parts.items()}
    snapshot = FleetSnapshot(
        revision=delta.revision,
        fleet=delta.fleet,
        store_url=delta.store_url,
        cleared=delta.cleared,
        format=delta.format,
        **lists,
    )
    sums = {name: _sum(part) for name, part in parts.items()}
    tag = _tag(snapshot, sums)
    if tag != delta.tag:
        raise DeltaMismatch(f"leads to {tag}, not to {delta.tag}")
    return HeldSnapshot(snapshot, tag, parts, sums)


def _changed(before: Index, changes: Changes[Any], name: str) -> Index:
    part = dict(before)
    for key in changes.gone:
        part.pop(tuple(key), None)
    for item in changes.put:
        found = _indexed(name, item)
        part[found.key] = found
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
