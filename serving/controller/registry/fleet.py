"""The fleet's side: the rows that a snapshot is made of, adapters with their aliases, engines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import func, select, tuple_

from serving.contract import EngineReport
from serving.controller.errors import NotFound
from serving.controller.registry.capacity_samples import HISTORY_SECONDS, drop_mark
from serving.controller.registry.report_writer import Recorded, ReportWriter
from serving.controller.registry.restored import audit_unknown, go_on_above
from serving.controller.registry.snapshot_history import SnapshotHistory
from serving.controller.registry.snapshot_rows import SnapshotReader, SnapshotRows
from serving.controller.registry.tables import (
    AdapterRow,
    AliasRow,
    EngineRow,
    FleetRow,
    WishesRow,
)
from serving.controller.registry.transactions import FLEET, MAX_KEYS, Sessions, Unit


@dataclass(frozen=True, slots=True)
class ObservedEngine:
    """The last that was heard of one engine."""

    report: EngineReport
    seen_at: float
    """Unix seconds, the controller's clock."""
    leaving_since: float | None = None
    """Whoever started it has said that it is about to end; None: it stays."""

    @property
    def is_abridged(self) -> bool:
        """Whether it leaves out versions that this process cannot name: unknown, not absent.

        So it is for a moment after a start, and with an engine that is away since long ago.
        """
        return bool(self.report.rest_proven_in)

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

    def __init__(self, sessions: Sessions, *, reports: ReportWriter | None = None) -> None:
        """`reports`: this process's, where it has one: whoever leads, they are of no term."""
        self._sessions = sessions
        self._reader = SnapshotReader(sessions)
        self.reports = reports or ReportWriter(sessions, SnapshotHistory())
        self.history = self.reports.history
        """What this process has given out."""
        self._observed: dict[tuple[str, str], ObservedEngine] = {}

    async def revision(self) -> int:
        """The snapshot's present revision."""
        async with self._sessions.read() as session:
            query = select(FleetRow.revision).where(FleetRow.name == FLEET)
            return (await session.execute(query)).scalar_one()

    async def snapshot_rows(self) -> SnapshotRows:
        """What the snapshot says now, and its revision, from one view."""
        return await self._reader.read()

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
    ) -> Recorded:
        """Keep an engine's report, a sample of its counts, and audit what it newly cannot serve.

        Samples older than `history_seconds` go. An engine that is ahead of a restored registry
        makes it go on from there.

        Raises:
            LimitExceeded: it follows a revision that this fleet cannot have had.
        """
        return await self.reports.write(report, history_seconds=history_seconds)

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
                report = msgspec.convert(row.report, EngineReport)
                await audit_unknown(unit, None, self.history.expand(report))
            return True

        return await self._sessions.write(work)

    async def engines(self) -> list[ObservedEngine]:
        """Every engine that ever reported and was not forgotten, by id.

        A report that this process has written or read before is not read and parsed again.
        """
        query = select(
            EngineRow.id, EngineRow.report_token, EngineRow.leaving_since, EngineRow.seen_at
        )
        # Another call may put a newer look in its place while this one reads.
        observed = self._observed
        async with self._sessions.read() as session:
            found = (await session.execute(query.order_by(EngineRow.id))).all()
            known = {}
            for name, token, _, seen_at in found:
                if token and (name, token) in observed:
                    known[name, token] = self._expanded(observed[name, token])
                elif (report := self.reports.find(name, token)) is not None:
                    known[name, token] = ObservedEngine(self.history.expand(report), seen_at)
            unread = [row[0] for row in found if (row[0], row[1]) not in known]
            rows = select(EngineRow).where(EngineRow.id.in_(unread))
            for row in (await session.execute(rows)).scalars() if unread else ():
                known[row.id, row.report_token] = self._observe(row)
        self._observed = known
        self.reports.forget_all_but({row[0] for row in found})
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

    def _expanded(self, engine: ObservedEngine) -> ObservedEngine:
        # What it refers to may have become known since it was read.
        if not engine.is_abridged or self.history.find(engine.report.rest_proven_in) is None:
            return engine
        return replace(engine, report=self.history.expand(engine.report))

    def _observe(self, row: EngineRow) -> ObservedEngine:
        report = msgspec.convert(row.report, EngineReport)
        return ObservedEngine(self.history.expand(report), row.seen_at)
