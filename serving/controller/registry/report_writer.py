"""Engines' reports into the registry: those that come at once are one write.

A write is alone and waits for the disk. A hundred engines that have all followed the same revision
would stand in line for it a hundred times, and a promotion behind them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import defer

from serving.contract import EngineReport
from serving.controller.registry.capacity_samples import (
    fetch_marks,
    keep_sample,
    prune_samples,
)
from serving.controller.registry.outages import audit_outages
from serving.controller.registry.restored import audit_unknown, go_on_above, may_hold_unknown
from serving.controller.registry.snapshot_history import SnapshotHistory
from serving.controller.registry.tables import EngineRow, Json
from serving.controller.registry.transactions import Sessions, Unit

_MAX_BATCH = 64
"""Reports in one write: others wait for the lock meanwhile. Arbitrary."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a report."""

    is_taken: bool
    """False: it is of an earlier life of the engine, and dropped."""
    is_news: bool
    """It says something else of versions, readiness or revision than the one before."""

    def __bool__(self) -> bool:
        return self.is_taken


@dataclass(frozen=True, slots=True)
class _Waiting:
    report: EngineReport
    history_seconds: float
    done: asyncio.Future[Recorded]


class ReportWriter:
    """The reports of one controller process."""

    def __init__(self, sessions: Sessions, history: SnapshotHistory) -> None:
        self._sessions, self.history = sessions, history
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._latest: dict[str, tuple[str, EngineReport]] = {}
        self.n_news = 0
        """Reports of this process that said something new: see `Recorded.is_news`."""

    def find(self, engine_id: str, token: str) -> EngineReport | None:
        """The report with that token, where this process has written it; None: read the row."""
        found = self._latest.get(engine_id)
        return found[1] if found is not None and found[0] == token else None

    def forget_all_but(self, engine_ids: AbstractSet[str]) -> None:
        """Keep no report of an engine that is gone: each pod has a name of its own, for ever."""
        for engine_id in self._latest.keys() - engine_ids:
            del self._latest[engine_id]

    async def write(self, report: EngineReport, *, history_seconds: float) -> Recorded:
        """Keep a report, together with others that are waiting; returns once it is committed.

        Raises:
            LimitExceeded: it follows a revision that this fleet cannot have had.
            RegistryUnavailable: the database did not answer.
        """
        done: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(report, history_seconds, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_all(), name="reports")
        return await done

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                await self._write_batch(batch)
            except BaseException:
                for item in (*batch, *self._waiting):
                    item.done.cancel()
                self._waiting = []
                raise

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        try:
            recorded, latest = await self._sessions.write(lambda unit: self._record(unit, batch))
        except Exception as exc:  # noqa: BLE001 - each caller gets its own
            if len(batch) == 1:
                _fail(batch[0], exc)
                return
            # One of them may be what is wrong, and the others' business it is not.
            for item in batch:
                await self._write_batch([item])
            return
        self._latest |= latest
        self.n_news += sum(one.is_news for one in recorded)
        for item, result in zip(batch, recorded, strict=True):
            if not item.done.done():
                item.done.set_result(result)

    async def _record(
        self, unit: Unit, batch: list[_Waiting]
    ) -> tuple[list[Recorded], dict[str, tuple[str, EngineReport]]]:
        rows, latest = await self._read(unit, {item.report.engine_id for item in batch})
        marks, n_samples = await fetch_marks(unit, rows.values()), 0
        recorded = []
        for item in batch:
            report = item.report
            row, before = rows.get(report.engine_id), latest.get(report.engine_id)
            if before is not None and before[1].started_at > report.started_at:
                recorded.append(Recorded(is_taken=False, is_news=False))
                continue
            if row is None:
                row = EngineRow(id=report.engine_id, first_seen_at=unit.now)
                unit.session.add(row)
                rows[report.engine_id] = row
            await self._record_one(unit, report, row, before and before[1])
            n_samples += keep_sample(unit, row, report, marks)
            latest[report.engine_id] = (row.report_token, report)
            is_new = before is None or is_news(before[1], report)
            recorded.append(Recorded(is_taken=True, is_news=is_new))
        if n_samples:
            await prune_samples(unit, unit.now - max(item.history_seconds for item in batch))
        return recorded, latest

    async def _read(
        self, unit: Unit, names: set[str]
    ) -> tuple[dict[str, EngineRow], dict[str, tuple[str, EngineReport]]]:
        """The engines' rows, without the reports, and their last reports, with the tokens."""
        query = select(EngineRow).where(EngineRow.id.in_(names)).options(defer(EngineRow.report))
        rows = {row.id: row for row in await unit.all(query)}
        latest = {
            row.id: (row.report_token, found)
            for row in rows.values()
            if (found := self.find(row.id, row.report_token)) is not None
        }
        if unread := rows.keys() - latest.keys():
            missing = select(EngineRow.id, EngineRow.report).where(EngineRow.id.in_(unread))
            for key, report in await unit.session.execute(missing):
                latest[key] = (rows[key].report_token, msgspec.convert(report, EngineReport))
        return rows, latest

    async def _record_one(
        self, unit: Unit, report: EngineReport, row: EngineRow, before: EngineReport | None
    ) -> None:
        expand = self.history.expand
        if before is not None and before.started_at != report.started_at:
            # A new life: it was the one before that was about to end.
            row.leaving_since = None
        # As it is: the registry's JSON writer knows it, and nobody reads it from this row.
        row.report, row.seen_at = cast("Json", report), unit.now
        row.report_token = secrets.token_hex(8)
        await audit_outages(unit, before, report)
        # Before anything newer is handed to it: then it would have dropped what it holds.
        go_on_above(unit, report.revision, engine_id=report.engine_id)
        if may_hold_unknown(unit, report):
            await audit_unknown(unit, before and expand(before), expand(report))


def is_news(before: EngineReport, now: EngineReport) -> bool:
    """Whether steps may go on by what an engine says now; counts alone are none of theirs. Pure."""
    return _told(before) != _told(now)


def _told(report: EngineReport) -> tuple[object, ...]:
    return (
        report.revision,
        report.rest_proven_in,
        [(item.name, item.digest, item.state, item.attempt) for item in report.versions],
        report.is_ready,
        report.stopping,
        report.waits_for_gate,
        (report.build, report.base_revision, report.dtype),
        report.started_at,
    )


def _fail(item: _Waiting, error: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(error)
