"""Which leader's writes count: the term of the fleet's row, which only grows.

A leader writes through `Repository.under(term)`, and every write of an older term is refused in its
own transaction (`transactions.Sessions.under`). So a leader that does not know yet that another one
has taken over cannot do a step twice, however wrong its clock or slow its network is. A controller
that is alone has no term.
"""

from __future__ import annotations

from sqlalchemy import select

from serving.controller.errors import Deposed
from serving.controller.registry import moves
from serving.controller.registry.tables import FleetRow, VersionRow
from serving.controller.registry.transactions import FLEET, Sessions, Unit


class Leadership:
    """The term of the present leader."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def term(self) -> int:
        """The latest term that was taken; 0: there never was one."""
        async with self._sessions.read() as session:
            query = select(FleetRow.leader_term).where(FleetRow.name == FLEET)
            return (await session.execute(query)).scalar_one()

    async def take(self, term: int) -> None:
        """Begin a term; earlier ones end, and what they were working on is free again.

        Raises:
            Deposed: it is not above the latest one.
        """

        async def work(unit: Unit) -> None:
            if term <= unit.fleet.leader_term:
                raise Deposed(term=term, present=unit.fleet.leader_term)
            unit.fleet.leader_term = term
            # Not only to lose no time: until these leases ran out nobody would work on them.
            for row in await unit.all(select(VersionRow).where(VersionRow.lock_token.is_not(None))):
                moves.unlock(row)

        await self._sessions.write(work)
