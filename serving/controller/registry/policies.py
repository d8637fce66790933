"""Gate policies as they were written, scope by scope; append-only, so every old one can be seen.

What a policy's fields mean is `adapters.parity.policy`'s: here they are JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, select

from serving.controller.registry.tables import Json, PolicyRow
from serving.controller.registry.tenants import fetch_tenant
from serving.controller.registry.transactions import Sessions, Unit


@dataclass(frozen=True, slots=True)
class PolicyScope:
    """Whom a policy is for: the fleet, one tenant, or one adapter of a tenant."""

    tenant_id: str | None = None
    adapter: str | None = None

    def __post_init__(self) -> None:
        if self.adapter is not None and self.tenant_id is None:
            raise ValueError("an adapter's scope names its tenant")

    @property
    def kind(self) -> str:
        """`fleet`, `tenant` or `adapter`."""
        if self.tenant_id is None:
            return "fleet"
        return "tenant" if self.adapter is None else "adapter"

    @property
    def key(self) -> str:
        """The row's key and the audit's subject."""
        names = [name for name in (self.tenant_id, self.adapter) if name is not None]
        return "policy:" + "/".join(names) if names else "policy"

    def wider(self) -> tuple[PolicyScope, ...]:
        """This scope and those around it, widest first."""
        scopes = [PolicyScope()]
        if self.tenant_id is not None:
            scopes.append(PolicyScope(self.tenant_id))
        if self.adapter is not None:
            scopes.append(self)
        return tuple(scopes)


class Policies:
    """Every policy that was ever in force."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def put(self, scope: PolicyScope, content: Json, *, actor: str) -> tuple[PolicyRow, bool]:
        """Write a scope's policy under the next number; `(row, is_new)`.

        The content of the latest number again makes nothing new and no audit row.

        Raises:
            NotFound: there is no such tenant.
        """

        async def work(unit: Unit) -> tuple[PolicyRow, bool]:
            if scope.tenant_id is not None:
                await fetch_tenant(unit, scope.tenant_id)
            latest = await unit.one(_latest(scope))
            if latest is not None and latest.content == content:
                return latest, False
            row = PolicyRow(
                scope_key=scope.key,
                number=1 if latest is None else latest.number + 1,
                scope=scope.kind,
                tenant_id=scope.tenant_id,
                adapter=scope.adapter,
                content=content,
                created_at=unit.now,
                created_by=actor,
            )
            unit.session.add(row)
            old = None if latest is None else latest.number
            evidence: Json = {
                "old_number": old,
                "new_number": row.number,
                "old": None if latest is None else latest.content,
                "new": content,
            }
            unit.audit(
                "put_policy", scope.key, actor=actor, tenant_id=scope.tenant_id, evidence=evidence
            )
            return row, True

        return await self._sessions.write(work)

    async def find(self, scope: PolicyScope, *, number: int | None = None) -> PolicyRow | None:
        """A scope's policy of one number, or its latest; None where there is none."""
        query = _latest(scope)
        if number is not None:
            query = query.where(PolicyRow.number == number)
        async with self._sessions.read() as session:
            return (await session.execute(query)).scalar_one_or_none()

    async def in_force(self, scope: PolicyScope) -> list[PolicyRow]:
        """The latest policies that reach `scope`, widest first, from one view."""
        async with self._sessions.read() as session:
            found = [
                (await session.execute(_latest(item))).scalar_one_or_none()
                for item in scope.wider()
            ]
        return [row for row in found if row is not None]


def _latest(scope: PolicyScope) -> Select[PolicyRow]:
    return (
        select(PolicyRow)
        .where(PolicyRow.scope_key == scope.key)
        .order_by(PolicyRow.number.desc())
        .limit(1)
    )
