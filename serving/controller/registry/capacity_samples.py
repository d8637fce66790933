"""Samples of the engines' counters: kept when a report begins a new interval, read for history."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import delete, select, tuple_

from serving.contract import EngineReport
from serving.controller.capacity.sampling import (
    BUCKET_SECONDS,
    Mark,
    bucket_of,
    mark_of,
    take_sample,
)
from serving.controller.registry.tables import CapacityMarkRow, CapacitySampleRow, EngineRow
from serving.controller.registry.transactions import Sessions, Unit

HISTORY_SECONDS = 86_400.0
_MAX_PRUNED = 500
"""Rows that one write may prune: one sample comes with each, so this soon catches up."""


class CapacitySamples:
    """Reads of the samples."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def since(self, at: float) -> list[tuple[str, int, str]]:
        """(engine, start of the interval, `Sample` as JSON) from `at` on, oldest first."""
        row = CapacitySampleRow
        query = (
            select(row.engine_id, row.bucket, row.sample)
            .where(row.bucket >= int(at))
            .order_by(row.bucket, row.engine_id)
        )
        async with self._sessions.read() as session:
            return [(item[0], item[1], item[2]) for item in await session.execute(query)]


Marks = dict[str, CapacityMarkRow]
"""By engine."""


async def fetch_marks(unit: Unit, rows: Iterable[EngineRow]) -> Marks:
    """The marks of these engines, of those whose interval has ended."""
    due = [row.id for row in rows if _is_due(row, unit.now)]
    query = select(CapacityMarkRow).where(CapacityMarkRow.engine_id.in_(due))
    return {mark.engine_id: mark for mark in await unit.all(query)} if due else {}


def keep_sample(unit: Unit, row: EngineRow, report: EngineReport, marks: Marks) -> bool:
    """Within the write of a report: a sample of the interval that has ended; whether one has.

    The first report of an engine only says where to count from: what came before has no time.
    """
    if not _is_due(row, unit.now):
        return False
    bucket = row.sample_bucket = bucket_of(unit.now)
    mark = marks.get(report.engine_id)
    if mark is None:
        mark = marks[report.engine_id] = CapacityMarkRow(engine_id=report.engine_id)
        unit.session.add(mark)
    else:
        sample = take_sample(msgspec.json.decode(mark.mark, type=Mark), report)
        unit.session.add(
            CapacitySampleRow(
                engine_id=report.engine_id,
                bucket=(bucket - 1) * BUCKET_SECONDS,
                sample=msgspec.json.encode(sample).decode(),
            )
        )
    mark.mark = msgspec.json.encode(mark_of(report)).decode()
    return True


def _is_due(row: EngineRow, now: float) -> bool:
    return row.sample_bucket is None or bucket_of(now) > row.sample_bucket


async def drop_mark(unit: Unit, engine_id: str) -> None:
    """Within the write that forgets an engine; its samples stay until they are old."""
    await unit.session.execute(
        delete(CapacityMarkRow).where(CapacityMarkRow.engine_id == engine_id)
    )


async def prune_samples(unit: Unit, before: float) -> None:
    """Within the write of samples: older ones go, many at most."""
    key = (CapacitySampleRow.engine_id, CapacitySampleRow.bucket)
    query = select(*key).where(CapacitySampleRow.bucket < int(before)).limit(_MAX_PRUNED)
    old = [(row[0], row[1]) for row in await unit.session.execute(query)]
    if old:
        await unit.session.execute(delete(CapacitySampleRow).where(tuple_(*key).in_(old)))
