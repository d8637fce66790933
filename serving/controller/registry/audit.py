"""The audit trail: every move of every thing, in commit order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, select

from serving.controller.registry.tables import AuditRow
from serving.controller.registry.transactions import Sessions


class Audit:
    """Reads the trail; rows are written by `transactions.Unit.audit` beside what they describe."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def after(
        self, last_id: int, *, tenant_id: str | None = None, limit: int = 200
    ) -> list[AuditRow]:
        """Rows after `last_id`, oldest first; of one tenant when given."""
        query = select(AuditRow).where(AuditRow.id > last_id).order_by(AuditRow.id).limit(limit)
        return await self._all(query, tenant_id)

    async def latest(
        self,
        *,
        tenant_id: str | None = None,
        subject: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """The newest rows, newest first."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(AuditRow.subject == subject)
        if before is not None:
            query = query.where(AuditRow.id < before)
        return await self._all(query, tenant_id)

    async def evidence_of_moves(
        self, subjects: Sequence[str], to_states: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        """By subject, the evidence of its latest move into one of these states, if it has any."""
        query = (
            select(AuditRow.subject, AuditRow.evidence)
            .where(AuditRow.subject.in_(subjects), AuditRow.to_state.in_(to_states))
            .order_by(AuditRow.id)
        )
        async with self._sessions.read() as session:
            rows = await session.execute(query)
            return {row.subject: row.evidence for row in rows if row.evidence}

    async def _all(self, query: Select[AuditRow], tenant_id: str | None) -> list[AuditRow]:
        if tenant_id is not None:
            query = query.where(AuditRow.tenant_id == tenant_id)
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())
