"""Residency wishes: whether there shall be any, who computes them, and what they are."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from serving.contract import EngineWishes
from serving.controller.registry.tables import EngineRow, FleetRow, WishesRow
from serving.controller.registry.transactions import FLEET, Sessions, Unit

SUBJECT = "residency"
"""The audit's subject of the mode."""


class Residency:
    """Mode, lease and wishes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def mode(self) -> str | None:
        """`auto` or `off`; None: never set."""
        async with self._sessions.read() as session:
            query = select(FleetRow.residency_mode).where(FleetRow.name == FLEET)
            return (await session.execute(query)).scalar_one()

    async def wishes(self) -> dict[str, EngineWishes]:
        """The present wishes by engine."""
        async with self._sessions.read() as session:
            rows = await session.execute(select(WishesRow).order_by(WishesRow.engine_id))
            return {row.engine_id: _wishes(row) for row in rows.scalars()}

    async def set_mode(self, mode: str, *, before: str, actor: str) -> bool:
        """Switch the mode; `off` takes all wishes out of the next snapshot at once.

        `before` is what holds where it was never set. False: it is so already.
        """

        async def work(unit: Unit) -> bool:
            old = unit.fleet.residency_mode or before
            unit.fleet.residency_mode = mode
            if mode == "off":
                await _clear(unit)
            if old == mode:
                return False
            unit.audit("set_residency_mode", SUBJECT, actor=actor, moved=(old, mode))
            return True

        return await self._sessions.write(work)

    async def claim(self, owner: str, *, lease_seconds: float) -> bool:
        """Whether `owner` is the one that computes wishes now; renews its lease if so."""

        async def work(unit: Unit) -> bool:
            fleet = unit.fleet
            is_free = (fleet.residency_until or 0.0) <= unit.now
            if not is_free and fleet.residency_owner != owner:
                return False
            fleet.residency_owner, fleet.residency_until = owner, unit.now + lease_seconds
            return True

        return await self._sessions.write(work)

    async def put_wishes(self, owner: str, wishes: Mapping[str, EngineWishes]) -> bool:
        """Replace these engines' wishes; others keep theirs. A change is a new revision.

        False: nothing is different, the lease is somebody else's by now, or the mode is off.
        Engines that were forgotten get none.
        """

        async def work(unit: Unit) -> bool:
            fleet = unit.fleet
            if fleet.residency_owner != owner or fleet.residency_mode == "off":
                return False
            engines = set(await unit.all(select(EngineRow.id)))
            rows = {row.engine_id: row for row in await unit.all(select(WishesRow))}
            for engine, wish in wishes.items():
                if engine in engines:
                    await _put(unit, rows.get(engine), wish)
            return unit.changed

        return await self._sessions.write(work)

    async def clear_wishes(self) -> bool:
        """Take all wishes out of the next snapshot; False: there are none."""

        async def work(unit: Unit) -> bool:
            await _clear(unit)
            return unit.changed

        return await self._sessions.write(work)


async def _put(unit: Unit, row: WishesRow | None, wish: EngineWishes) -> None:
    is_empty = not wish.hot and not wish.companions
    if row is None:
        if is_empty:
            return
        row = WishesRow(engine_id=wish.engine)
        unit.session.add(row)
    elif _wishes(row) == wish:
        return
    elif is_empty:
        await unit.session.delete(row)
        unit.bump()
        return
    row.hot, row.companions, row.changed_at = wish.hot, dict(wish.companions), unit.now
    unit.bump()


async def _clear(unit: Unit) -> None:
    for row in await unit.all(select(WishesRow)):
        await unit.session.delete(row)
        unit.bump()


def _wishes(row: WishesRow) -> EngineWishes:
    return EngineWishes(engine=row.engine_id, hot=list(row.hot), companions=dict(row.companions))
