"""What capacity needs of the registry: versions as a table, without their heavy columns."""

from __future__ import annotations

from sqlalchemy import and_, select

from serving.controller.capacity.adapter_table import VersionFacts
from serving.controller.registry.tables import AliasRow, FleetRow, VersionRow
from serving.controller.registry.transactions import FLEET, Sessions


class Capacity:
    """Reads for the capacity pages."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def stamp(self) -> tuple[int, int]:
        """(revision, audit sequence): unchanged while no version and no alias has moved."""
        query = select(FleetRow.revision, FleetRow.audit_sequence).where(FleetRow.name == FLEET)
        async with self._sessions.read() as session:
            row = (await session.execute(query)).one()
            return row[0], row[1]

    async def version_facts(self) -> list[VersionFacts]:
        """Every version, one row each, in one query."""
        alias = and_(
            AliasRow.tenant_id == VersionRow.tenant_id,
            AliasRow.adapter == VersionRow.adapter,
            AliasRow.number == VersionRow.number,
        )
        query = (
            select(
                VersionRow.id,
                VersionRow.tenant_id,
                VersionRow.adapter,
                VersionRow.number,
                VersionRow.state,
                AliasRow.number.is_not(None),
                VersionRow.verdict,
                VersionRow.rank,
            )
            .outerjoin(AliasRow, alias)
            .order_by(VersionRow.id)
        )
        async with self._sessions.read() as session:
            rows = await session.execute(query)
            return [VersionFacts(*row[:5], bool(row[5]), *row[6:]) for row in rows]
