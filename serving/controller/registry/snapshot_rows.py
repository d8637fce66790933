"""The rows that a snapshot is compiled from, in one view; versions that were read before are kept.

A version's row is large (files, probes), and of thousands one or two have changed since the last
look: only their tokens are read again, and the rows whose token is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from serving.controller.lifecycle import SERVING_STATES, State
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


class SnapshotReader:
    """Reads the rows; one and the same object stands for a version as long as it is unchanged."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._versions: dict[str, tuple[int, VersionRow]] = {}
        """Token and row by name."""

    async def read(self) -> SnapshotRows:
        """What the snapshot says now, and its revision, from one view.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        async with self._sessions.read() as session:
            fleet = await session.execute(
                select(FleetRow.revision, FleetRow.upgrade_mode, FleetRow.restored_revision).where(
                    FleetRow.name == FLEET
                )
            )
            revision, upgrade_mode, restored = fleet.one()
            tenants = await session.execute(_TENANTS)
            keys = await session.execute(_KEYS)
            versions = await self._read_versions(session)
            aliases = await session.execute(_ALIASES)
            wishes = await session.execute(select(WishesRow))
            cleared = await session.execute(select(ClearedKindRow))
            return SnapshotRows(
                revision=revision,
                tenants=tenants.all(),
                keys=keys.all(),
                versions=versions,
                aliases=list(map(tuple, aliases)),
                wishes=list(wishes.scalars()),
                cleared=list(cleared.scalars()) if upgrade_mode == "gate" else None,
                restored_revision=restored,
            )

    async def _read_versions(self, session: AsyncSession) -> list[VersionRow]:
        # Another call may put a newer look in its place while this one reads.
        known = self._versions
        found = {row[0]: row[1] for row in (await session.execute(TOKENS)).all()}
        # 0 is a row that was never changed since it was made, or since there are tokens.
        fresh = [key for key, token in found.items() if key not in known or known[key][0] != token]
        query = select(VersionRow).where(_HELD)
        if len(fresh) <= MAX_KEYS:
            query = query.where(VersionRow.id.in_(fresh))
        rows = (await session.execute(query)).scalars().all() if fresh else ()
        read = known | {row.id: (row.row_token, row) for row in rows}
        self._versions = {key: read[key] for key in found}
        return [row for _, row in self._versions.values()]
