"""The fleet's side: the rows that a snapshot is made of, adapters with their aliases, engines."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from sqlalchemy import or_, select

from serving.contract import EngineReport
from serving.controller.errors import NotFound
from serving.controller.lifecycle import SERVING_STATES, State
from serving.controller.registry.outages import audit_outages
from serving.controller.registry.tables import (
    AdapterRow,
    AliasRow,
    EngineRow,
    FleetRow,
    KeyRow,
    TenantRow,
    VersionRow,
)
from serving.controller.registry.transactions import FLEET, Sessions, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRows:
    """One consistent view of everything that a snapshot is compiled from."""

    revision: int
    tenants: list[TenantRow] = field(default_factory=list)
    keys: list[KeyRow] = field(default_factory=list)
    versions: list[VersionRow] = field(default_factory=list)
    aliases: list[AliasRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ObservedEngine:
    """The last that was heard of one engine."""

    report: EngineReport
    seen_at: float
    """Unix seconds, the controller's clock."""

    def is_reachable(self, now: float, timeout_seconds: float) -> bool:
        """Whether it reported lately. Unreachable says nothing about what it holds."""
        return now - self.seen_at <= timeout_seconds


class Fleet:
    """Snapshot rows, adapters and engines."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def revision(self) -> int:
        """The snapshot's present revision."""
        async with self._sessions.read() as session:
            query = select(FleetRow.revision).where(FleetRow.name == FLEET)
            return (await session.execute(query)).scalar_one()

    async def snapshot_rows(self) -> SnapshotRows:
        """What the snapshot says now, and its revision, from one view."""
        held = or_(
            VersionRow.state.in_([state.value for state in SERVING_STATES]),
            (VersionRow.state == State.EVALUATING.value) & (VersionRow.gate_phase == "candidate"),
        )
        async with self._sessions.read() as session:
            revision = await session.execute(
                select(FleetRow.revision).where(FleetRow.name == FLEET)
            )
            tenants = await session.execute(select(TenantRow).where(TenantRow.deleted_at.is_(None)))
            keys = await session.execute(select(KeyRow).where(KeyRow.revoked_at.is_(None)))
            versions = await session.execute(select(VersionRow).where(held))
            aliases = await session.execute(select(AliasRow))
            return SnapshotRows(
                revision=revision.scalar_one(),
                tenants=list(tenants.scalars()),
                keys=list(keys.scalars()),
                versions=list(versions.scalars()),
                aliases=list(aliases.scalars()),
            )

    async def adapters(self, *, tenant_id: str | None = None) -> list[AdapterRow]:
        """Adapters, by tenant and name."""
        query = select(AdapterRow).order_by(AdapterRow.tenant_id, AdapterRow.name)
        if tenant_id is not None:
            query = query.where(AdapterRow.tenant_id == tenant_id)
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())

    async def adapter(self, tenant_id: str, name: str) -> AdapterRow:
        """One adapter.

        Raises:
            NotFound: there is none.
        """
        async with self._sessions.read() as session:
            row = await session.get(AdapterRow, (tenant_id, name))
        if row is None:
            raise NotFound(kind="adapter", name=f"{tenant_id}/{name}")
        return row

    async def aliases(self, *, tenant_id: str | None = None) -> list[AliasRow]:
        """Where aliases point."""
        query = select(AliasRow)
        if tenant_id is not None:
            query = query.where(AliasRow.tenant_id == tenant_id)
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())

    async def record_report(self, report: EngineReport) -> bool:
        """Keep an engine's report, and audit what it newly could not serve.

        False: it is of an earlier life of the engine, and dropped.
        """

        async def work(unit: Unit) -> bool:
            row, before = await unit.session.get(EngineRow, report.engine_id), None
            if row is None:
                row = EngineRow(id=report.engine_id, first_seen_at=unit.now)
                unit.session.add(row)
            elif row.report.get("started_at", 0.0) > report.started_at:
                return False
            else:
                before = msgspec.convert(row.report, EngineReport)
            row.report, row.seen_at = msgspec.to_builtins(report), unit.now
            await audit_outages(unit, before, report)
            return True

        return await self._sessions.write(work)

    async def engines(self) -> list[ObservedEngine]:
        """Every engine that ever reported and was not forgotten, by id."""
        async with self._sessions.read() as session:
            rows = (await session.execute(select(EngineRow).order_by(EngineRow.id))).scalars()
            return [
                ObservedEngine(msgspec.convert(row.report, EngineReport), row.seen_at)
                for row in rows
            ]

    async def forget_engine(self, engine_id: str, *, actor: str) -> None:
        """An operator says that this engine is gone for good.

        Raises:
            NotFound: no such engine ever reported.
        """

        async def work(unit: Unit) -> None:
            row = await unit.session.get(EngineRow, engine_id)
            if row is None:
                raise NotFound(kind="engine", name=engine_id)
            await unit.session.delete(row)
            unit.audit("forget_engine", engine_id, actor=actor)

        await self._sessions.write(work)
