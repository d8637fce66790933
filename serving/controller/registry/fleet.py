"""The fleet's side: the rows that a snapshot is made of, adapters with their aliases, engines."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from sqlalchemy import func, or_, select, tuple_

from serving.contract import EngineReport
from serving.controller.errors import NotFound
from serving.controller.lifecycle import SERVING_STATES, State
from serving.controller.registry.capacity_samples import (
    HISTORY_SECONDS,
    drop_mark,
    keep_sample,
)
from serving.controller.registry.outages import audit_outages
from serving.controller.registry.restored import audit_unknown, go_on_above
from serving.controller.registry.tables import (
    AdapterRow,
    AliasRow,
    ClearedKindRow,
    EngineRow,
    FleetRow,
    KeyRow,
    TenantRow,
    VersionRow,
    WishesRow,
)
from serving.controller.registry.transactions import FLEET, MAX_KEYS, Sessions, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRows:
    """One consistent view of everything that a snapshot is compiled from."""

    revision: int
    tenants: list[TenantRow] = field(default_factory=list)
    keys: list[KeyRow] = field(default_factory=list)
    versions: list[VersionRow] = field(default_factory=list)
    aliases: list[AliasRow] = field(default_factory=list)
    wishes: list[WishesRow] = field(default_factory=list)
    cleared: list[ClearedKindRow] | None = None
    """Kinds of engines that may answer tenants; None: every kind."""


@dataclass(frozen=True, slots=True)
class ObservedEngine:
    """The last that was heard of one engine."""

    report: EngineReport
    seen_at: float
    """Unix seconds, the controller's clock."""
    leaving_since: float | None = None
    """Whoever started it has said that it is about to end; None: it stays."""

    @property
    def is_leaving(self) -> bool:
        """Whether it is about to end, whatever its last report says: nothing waits for it."""
        return self.leaving_since is not None

    def is_reachable(self, now: float, timeout_seconds: float) -> bool:
        """Whether it reported lately. Unreachable says nothing about what it holds."""
        return now - self.seen_at <= timeout_seconds


@dataclass(frozen=True, slots=True)
class Heard:
    """What the registry knows of an engine that asks for news."""

    is_owed: bool
    """It follows what this registry never gave out, and has not said what it holds."""
    report_token: str | None
    """Another one after each report; None: none yet."""


class Fleet:
    """Snapshot rows, adapters and engines."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._observed: dict[tuple[str, str], ObservedEngine] = {}

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
            fleet = await session.execute(
                select(FleetRow.revision, FleetRow.upgrade_mode).where(FleetRow.name == FLEET)
            )
            tenants = await session.execute(select(TenantRow).where(TenantRow.deleted_at.is_(None)))
            keys = await session.execute(select(KeyRow).where(KeyRow.revoked_at.is_(None)))
            versions = await session.execute(select(VersionRow).where(held))
            aliases = await session.execute(select(AliasRow))
            wishes = await session.execute(select(WishesRow))
            revision, upgrade_mode = fleet.one()
            cleared = await session.execute(select(ClearedKindRow))
            return SnapshotRows(
                revision=revision,
                tenants=list(tenants.scalars()),
                keys=list(keys.scalars()),
                versions=list(versions.scalars()),
                aliases=list(aliases.scalars()),
                wishes=list(wishes.scalars()),
                cleared=list(cleared.scalars()) if upgrade_mode == "gate" else None,
            )

    async def adapters(self, *, tenant_id: str | None = None) -> list[AdapterRow]:
        """Adapters, by tenant and name."""
        query = select(AdapterRow).order_by(AdapterRow.tenant_id, AdapterRow.name)
        if tenant_id is not None:
            query = query.where(AdapterRow.tenant_id == tenant_id)
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())

    async def adapter_page(
        self, *, search: str, limit: int | None, offset: int
    ) -> tuple[list[AdapterRow], int]:
        """Adapters with `search` in `tenant/name`, by tenant and name, and how many there are."""
        name = func.lower(AdapterRow.tenant_id + "/" + AdapterRow.name)
        is_found = name.contains(search.strip().lower(), autoescape=True)
        query = select(AdapterRow).where(is_found).order_by(AdapterRow.tenant_id, AdapterRow.name)
        count = select(func.count()).select_from(AdapterRow).where(is_found)
        async with self._sessions.read() as session:
            total = (await session.execute(count)).scalar_one()
            rows = await session.execute(query.limit(limit).offset(offset))
            return list(rows.scalars()), total

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

    async def aliases(
        self, *, tenant_id: str | None = None, keys: Sequence[tuple[str, str]] | None = None
    ) -> list[AliasRow]:
        """Where aliases point; `keys`: of these (tenant, adapter), and maybe of others."""
        query = select(AliasRow)
        if tenant_id is not None:
            query = query.where(AliasRow.tenant_id == tenant_id)
        if keys is not None and len(keys) <= MAX_KEYS:
            query = query.where(tuple_(AliasRow.tenant_id, AliasRow.adapter).in_(keys))
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())

    async def record_report(
        self, report: EngineReport, *, history_seconds: float = HISTORY_SECONDS
    ) -> bool:
        """Keep an engine's report, a sample of its counts, and audit what it newly cannot serve.

        Samples older than `history_seconds` go. False: it is of an earlier life of the engine, and
        dropped. An engine that is ahead of a restored registry makes it go on from there.

        Raises:
            LimitExceeded: it follows a revision that this fleet cannot have had.
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
            if before is not None and before.started_at != report.started_at:
                # A new life: it was the one before that was about to end.
                row.leaving_since = None
            row.report, row.seen_at = msgspec.to_builtins(report), unit.now
            row.report_token = secrets.token_hex(8)
            await keep_sample(unit, row, report, history_seconds=history_seconds)
            await audit_outages(unit, before, report)
            # Before anything newer is handed to it: then it would have dropped what it holds.
            go_on_above(unit, report.revision, engine_id=report.engine_id)
            await audit_unknown(unit, before, report)
            return True

        return await self._sessions.write(work)

    async def heard(self, engine_id: str, *, following: int) -> Heard:
        """What is known of an engine that follows this revision and asks for a later one."""
        query = select(FleetRow.revision, FleetRow.restored_revision).where(FleetRow.name == FLEET)
        async with self._sessions.read() as session:
            revision, restored = (await session.execute(query)).one()
            row = await session.get(EngineRow, engine_id)
        said = None if row is None else row.report.get("revision")
        is_foreign = following > revision or (restored is not None and following < restored)
        is_owed = following >= 0 and is_foreign and said != following
        return Heard(is_owed, None if row is None else row.report_token)

    async def go_on_above(self, revision: int, *, engine_id: str) -> bool:
        """Be heard by an engine that follows a `revision` which this registry has not reached.

        What it last said that it holds, and this registry does not know, is written down. False:
        the registry has reached it, nothing is written.

        Raises:
            LimitExceeded: this fleet cannot have had that revision.
        """
        if await self.revision() >= revision:
            return False

        async def work(unit: Unit) -> bool:
            if not go_on_above(unit, revision, engine_id=engine_id):
                return False
            row = await unit.session.get(EngineRow, engine_id)
            if row is not None:
                await audit_unknown(unit, None, msgspec.convert(row.report, EngineReport))
            return True

        return await self._sessions.write(work)

    async def engines(self) -> list[ObservedEngine]:
        """Every engine that ever reported and was not forgotten, by id.

        A report that this process has read before is not read and parsed again.
        """
        present = select(EngineRow.id, EngineRow.report_token, EngineRow.leaving_since)
        # Another call may put a newer look in its place while this one reads.
        observed = self._observed
        async with self._sessions.read() as session:
            found = (await session.execute(present.order_by(EngineRow.id))).all()
            tokens = [(row[0], row[1]) for row in found]
            unread = [item[0] for item in tokens if not item[1] or item not in observed]
            query = select(EngineRow).where(EngineRow.id.in_(unread))
            rows = (await session.execute(query)).scalars().all() if unread else ()
        known = {item: observed[item] for item in tokens if item in observed}
        known |= {(row.id, row.report_token): _observed(row) for row in rows}
        self._observed = known
        return [
            replace(known[row[0], row[1]], leaving_since=row[2])
            if row[2]
            else known[row[0], row[1]]
            for row in found
        ]

    async def mark_leaving(self, leaving: Collection[str], staying: Collection[str] = ()) -> bool:
        """Note which engines are about to end, and which are not after all; whether that is new."""

        async def work(unit: Unit) -> bool:
            is_new = False
            for engine_id in (*leaving, *staying):
                row = await unit.session.get(EngineRow, engine_id)
                if row is None or (row.leaving_since is not None) == (engine_id in leaving):
                    continue
                row.leaving_since = unit.now if engine_id in leaving else None
                is_new = True
            return is_new

        return await self._sessions.write(work)

    async def forget_engine(self, engine_id: str, *, actor: str, reason: str | None = None) -> None:
        """Somebody who knows says that this engine is gone for good.

        Raises:
            NotFound: no such engine ever reported.
        """

        async def work(unit: Unit) -> None:
            row = await unit.session.get(EngineRow, engine_id)
            if row is None:
                raise NotFound(kind="engine", name=engine_id)
            await unit.session.delete(row)
            await drop_mark(unit, engine_id)
            if (wishes := await unit.session.get(WishesRow, engine_id)) is not None:
                await unit.session.delete(wishes)
                unit.bump()
            unit.audit("forget_engine", engine_id, actor=actor, reason=reason)

        await self._sessions.write(work)


def _observed(row: EngineRow) -> ObservedEngine:
    return ObservedEngine(msgspec.convert(row.report, EngineReport), row.seen_at)
