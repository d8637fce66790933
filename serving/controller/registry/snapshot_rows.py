"""The rows that a snapshot is compiled from, in one view; what was read before is kept.

Of thousands one or two have changed since the last look. Where this process made the changes it
knows which, and reads these rows alone; after anybody else's it reads everything but the versions'
rows, which are large (files, probes): their tokens tell which are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from serving.controller.lifecycle import SERVING_STATES, State
from serving.controller.registry.changes import Mark, Touched
from serving.controller.registry.tables import (
    AliasRow,
    ClearedKindRow,
    FleetRow,
    KeyRow,
    TenantRow,
    VersionRow,
    WishesRow,
)
from serving.controller.registry.transactions import FLEET, MAX_KEYS, Sessions

_HELD = or_(
    VersionRow.state.in_([state.value for state in SERVING_STATES]),
    (VersionRow.state == State.EVALUATING.value) & (VersionRow.gate_phase == "candidate"),
)
# Columns of the tables and not of the mapped classes: the mapper has nothing to do to thousands of
# bare rows, and takes half of the time that it takes to read them.
_versions, _aliases = VersionRow.__table__.c, AliasRow.__table__.c
_keys, _tenants = KeyRow.__table__.c, TenantRow.__table__.c
TOKENS = select(_versions.id, _versions.row_token).where(_HELD)
"""All of it is in the index `ix_versions_held`: a row itself is kilobytes."""
_ALIASES = select(_aliases.tenant_id, _aliases.adapter, _aliases.number)
_TENANTS = select(_tenants.id, _tenants.max_in_flight).where(_tenants.deleted_at.is_(None))
_KEYS = select(
    _keys.id, _keys.tenant_id, _keys.key_hash, _keys.scopes, _keys.expires_at, _keys.fallback
).where(_keys.revoked_at.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRows:
    """One consistent view of everything that a snapshot is compiled from.

    Rows have the columns that the snapshot needs, whether they are objects or bare rows.
    """

    revision: int
    tenants: Sequence[Any] = field(default_factory=list)
    """As `TenantRow`."""
    keys: Sequence[Any] = field(default_factory=list)
    """As `KeyRow`."""
    versions: list[VersionRow] = field(default_factory=list)
    aliases: Sequence[tuple[str, str, int]] = field(default_factory=list)
    """(tenant, adapter, number)."""
    wishes: list[WishesRow] = field(default_factory=list)
    cleared: list[ClearedKindRow] | None = None
    """Kinds of engines that may answer tenants; None: every kind."""
    restored_revision: int | None = None
    """See `FleetRow`."""


class _Fleet(NamedTuple):
    revision: int
    token: int
    upgrade_mode: str | None
    restored_revision: int | None

    @property
    def mark(self) -> Mark:
        return Mark(self.revision, self.token)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look has found."""

    mark: Mark
    rows: SnapshotRows
    versions: dict[str, tuple[int, VersionRow]]
    """Token and row by name."""


class SnapshotReader:
    """Reads the rows; what has not changed since the last look is the same objects as then."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._seen: _Seen | None = None

    async def read(self) -> SnapshotRows:
        """What the snapshot says now, and its revision, from one view.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        # Another call may put a newer look in its place while this one reads.
        seen = self._seen
        async with self._sessions.read() as session:
            query = select(
                FleetRow.revision, FleetRow.revision_token, FleetRow.upgrade_mode,
                FleetRow.restored_revision,
            ).where(FleetRow.name == FLEET)  # fmt: skip
            fleet = _Fleet(*(await session.execute(query)).one())
            touched = None
            # Who looks twice at one and the same content doubts what it has seen.
            if seen is not None and seen.mark != fleet.mark:
                touched = self._sessions.changes.between(seen.mark, fleet.mark)
            if seen is None or touched is None or _is_much(touched):
                found = await _read_all(session, fleet, {} if seen is None else seen.versions)
            else:
                found = await _read_touched(session, fleet, seen, touched)
        self._seen = found
        return found.rows


def _is_much(touched: Touched) -> bool:
    return any(len(keys) > MAX_KEYS for keys in touched.values())


async def _read_all(
    session: AsyncSession, fleet: _Fleet, known: dict[str, tuple[int, VersionRow]]
) -> _Seen:
    versions = await _read_versions(session, known)
    rows = SnapshotRows(
        revision=fleet.revision,
        tenants=(await session.execute(_TENANTS)).all(),
        keys=(await session.execute(_KEYS)).all(),
        versions=[row for _, row in versions.values()],
        aliases=list(map(tuple, await session.execute(_ALIASES))),
        wishes=await _read_wishes(session),
        cleared=await _read_cleared(session, fleet),
        restored_revision=fleet.restored_revision,
    )
    return _Seen(fleet.mark, rows, versions)


async def _read_versions(
    session: AsyncSession, known: dict[str, tuple[int, VersionRow]]
) -> dict[str, tuple[int, VersionRow]]:
    found = {row[0]: row[1] for row in (await session.execute(TOKENS)).all()}
    # 0 is a row that was never changed since it was made, or since there are tokens.
    fresh = [key for key, token in found.items() if key not in known or known[key][0] != token]
    query = select(VersionRow).where(_HELD)
    if len(fresh) <= MAX_KEYS:
        query = query.where(VersionRow.id.in_(fresh))
    rows = (await session.execute(query)).scalars().all() if fresh else ()
    read = known | {row.id: (row.row_token, row) for row in rows}
    return {key: read[key] for key in found}


async def _read_touched(
    session: AsyncSession, fleet: _Fleet, seen: _Seen, touched: Touched
) -> _Seen:
    rows, versions = seen.rows, seen.versions
    changed: dict[str, Any] = {}
    if names := {key[0] for key in touched.get(VersionRow, ())}:
        query = select(VersionRow).where(_HELD, VersionRow.id.in_(names))
        now = {row.id: (row.row_token, row) for row in (await session.execute(query)).scalars()}
        versions = {key: pair for key, pair in versions.items() if key not in names} | now
        changed["versions"] = [row for _, row in versions.values()]
    if keys := touched.get(AliasRow):
        query = _ALIASES.where(tuple_(_aliases.tenant_id, _aliases.adapter).in_(keys))
        kept = [alias for alias in rows.aliases if alias[:2] not in keys]
        changed["aliases"] = kept + list(map(tuple, await session.execute(query)))
    if TenantRow in touched:
        changed["tenants"] = (await session.execute(_TENANTS)).all()
    if KeyRow in touched:
        changed["keys"] = (await session.execute(_KEYS)).all()
    if WishesRow in touched:
        changed["wishes"] = await _read_wishes(session)
    found = replace(
        rows,
        revision=fleet.revision,
        cleared=await _read_cleared(session, fleet),
        restored_revision=fleet.restored_revision,
        **changed,
    )
    return _Seen(fleet.mark, found, versions)


async def _read_wishes(session: AsyncSession) -> list[WishesRow]:
    return list((await session.execute(select(WishesRow))).scalars())


async def _read_cleared(session: AsyncSession, fleet: _Fleet) -> list[ClearedKindRow] | None:
    if fleet.upgrade_mode != "gate":
        return None
    return list((await session.execute(select(ClearedKindRow))).scalars())
