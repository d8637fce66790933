"""Rows -> FleetSnapshot. The same rows give the same snapshot, in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from serving.contract import (
    AliasEntry,
    ArtifactFile,
    EngineKind,
    EngineWishes,
    FleetSnapshot,
    KeyGrant,
    KindProbe,
    Probe,
    Role,
    TenantEntry,
    VersionEntry,
)
from serving.controller.lifecycle import State
from serving.controller.registry.moves import is_in_snapshot, version_id
from serving.controller.registry.snapshot_rows import SnapshotRows
from serving.controller.registry.tables import ClearedKindRow, VersionRow

ENGINE_SCOPES = frozenset({"inference", "base"})
"""What a tenant's key may mean to an engine; its other scopes are the controller's."""


T = TypeVar("T")
Target = tuple[str, str, int]
"""What an alias points at: tenant, adapter, number."""


class _Held(NamedTuple):
    row: VersionRow
    is_gated: bool
    entry: VersionEntry
    target: Target
    """Made once: thousands of new tuples at each look are what the collector wakes up for."""


class Entries:
    """Parts of the last snapshot; the same objects again for what has not changed."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._aliases: dict[Target, AliasEntry] = {}
        self._parts: dict[str, tuple[tuple[object, ...], object]] = {}

    def part(self, name: str, sources: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` makes of the sources; the last one itself if these are as they were.

        Rows that nobody has written since the last look are in the very same list.
        """
        known = self._parts.get(name)
        if known is None or known[0] != sources:
            known = self._parts[name] = (sources, make())
        return cast("T", known[1])

    def of(self, rows: Iterable[VersionRow], *, is_gated: bool) -> list[_Held]:
        """Those that engines shall hold, in the rows' order; others than these are forgotten."""
        before, self._held = self._held, {}
        for row in rows:
            # By identity, which holds as long as the row is kept: to read a column of each of
            # thousands of rows takes longer than all the rest of a compilation.
            found = before.get(id(row))
            if found is None or found.is_gated != is_gated:
                if not is_in_snapshot(row):
                    continue
                entry = _entry(row, is_gated=is_gated)
                target = (entry.tenant, entry.adapter, entry.number)
                found = _Held(row, is_gated, entry, target)
            self._held[id(row)] = found
        return list(self._held.values())

    def of_aliases(self, targets: Iterable[Target], *, held: Container[Target]) -> list[AliasEntry]:
        """Those whose (tenant, adapter, number) is held, in this order; others are forgotten."""
        known = self._aliases
        self._aliases = {
            target: known.get(target) or AliasEntry(*target)
            for target in sorted(targets)
            if target in held
        }
        return list(self._aliases.values())


def compile_snapshot(
    rows: SnapshotRows,
    *,
    fleet: str,
    store_url: str,
    gate_key_hash: str,
    entries: Entries | None = None,
) -> FleetSnapshot:
    """The desired state that these rows describe; `entries`: those of an earlier call.

    An alias is left out when its version is not held: an engine answers "not found" then, never
    with another version. Keys of tenants that are not listed are left out too.
    """
    entries = entries or Entries()
    tenants = entries.part("tenants", (rows.tenants,), lambda: _tenants(rows))
    known = {tenant.tenant for tenant in tenants}
    compiled = entries.of(rows.versions, is_gated=rows.cleared is not None)
    versions = [entry for _, _, entry, target in compiled if target[0] in known]
    held = {
        target
        for _, _, entry, target in compiled
        if entry.role is Role.SERVING and target[0] in known
    }
    return FleetSnapshot(
        revision=rows.revision,
        fleet=fleet,
        store_url=store_url,
        versions=sorted(versions, key=attrgetter("name")),
        aliases=entries.part(
            "aliases", (rows.aliases, held), lambda: entries.of_aliases(rows.aliases, held=held)
        ),
        keys=entries.part(
            "keys", (rows.keys, known, gate_key_hash), lambda: _keys(rows, known, gate_key_hash)
        ),
        tenants=tenants,
        cleared=None if rows.cleared is None else sorted(_kind(row) for row in rows.cleared),
        residency=_residency(rows, held),
    )


def _tenants(rows: SnapshotRows) -> list[TenantEntry]:
    return [
        TenantEntry(tenant=row.id, max_in_flight=row.max_in_flight)
        for row in sorted(rows.tenants, key=lambda row: row.id)
    ]


def _keys(rows: SnapshotRows, tenants: set[str], gate_key_hash: str) -> list[KeyGrant]:
    gate = KeyGrant(key_id="gate", key_hash=gate_key_hash, tenant="", scopes=["gate"])
    grants = [_grant(row) for row in rows.keys if row.tenant_id in tenants and _reaches(row)]
    return [gate, *sorted(grants, key=lambda grant: grant.key_id)]


def _residency(rows: SnapshotRows, held: Iterable[Target]) -> list[EngineWishes]:
    """Wishes for what is served alone: a version may have left since they were computed."""
    served = {version_id(*target) for target in held} if rows.wishes else set()
    wishes = []
    for row in sorted(rows.wishes, key=lambda row: row.engine_id):
        companions = {
            tenant: kept
            for tenant, names in sorted(row.companions.items())
            if (kept := [name for name in names if name in served])
        }
        hot = [name for name in row.hot if name in served]
        if hot or companions:
            wishes.append(EngineWishes(engine=row.engine_id, hot=hot, companions=companions))
    return wishes


def _kind(row: ClearedKindRow) -> EngineKind:
    return EngineKind(row.engine_build, row.base_revision, row.dtype)


def _entry(row: VersionRow, *, is_gated: bool) -> VersionEntry:
    files = [ArtifactFile(f["name"], f["sha256"], f["size_bytes"]) for f in row.files]
    is_candidate = row.state == State.EVALUATING
    return VersionEntry(
        name=row.id,
        tenant=row.tenant_id,
        adapter=row.adapter,
        number=row.number,
        digest=row.digest,
        files=sorted(files, key=lambda file: file.name),
        rank=row.rank or 0,
        role=Role.CANDIDATE if is_candidate else Role.SERVING,
        probe=None if row.probe is None else msgspec.convert(row.probe, Probe),
        probes=[] if is_candidate else _probes(row, is_gated=is_gated),
        attempt=row.attempt,
    )


def _probes(row: VersionRow, *, is_gated: bool) -> list[KindProbe]:
    """By kind; one alone says nothing more than `probe`, but for whom tenants must not reach."""
    probes = row.probes or []
    return msgspec.convert(probes, list[KindProbe]) if is_gated or len(probes) > 1 else []


def _reaches(row: Any) -> bool:
    return "inference" in row.scopes


def _grant(row: Any) -> KeyGrant:
    return KeyGrant(
        key_id=row.id,
        key_hash=row.key_hash,
        tenant=row.tenant_id,
        scopes=sorted(ENGINE_SCOPES & set(row.scopes)),
        expires_at=row.expires_at,
        fallback=row.fallback,
    )
