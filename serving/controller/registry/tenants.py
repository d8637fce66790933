"""Tenants, their API keys and their suites."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import defer

from serving.controller.errors import AlreadyExists, LimitExceeded, NotFound
from serving.controller.lifecycle import Event, State
from serving.controller.registry import moves
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import Json, KeyRow, SuiteRow, TenantRow, VersionRow
from serving.controller.registry.transactions import Sessions, Unit

MAX_KEYS_PER_TENANT = 200
"""Live keys; arbitrary, bounds the snapshot."""


async def fetch_tenant(unit: Unit, tenant_id: str) -> TenantRow:
    """A tenant that is not deleted.

    Raises:
        NotFound: there is none.
    """
    row = await unit.session.get(TenantRow, tenant_id)
    if row is None or row.deleted_at is not None:
        raise NotFound(kind="tenant", name=tenant_id)
    return row


class Tenants:
    """Tenants, keys and suites."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def create(
        self,
        tenant_id: str,
        *,
        display_name: str,
        max_in_flight: int | None = None,
        actor: str,
    ) -> TenantRow:
        """Make a tenant.

        Raises:
            AlreadyExists: the id is or was in use.
        """

        async def work(unit: Unit) -> TenantRow:
            if await unit.session.get(TenantRow, tenant_id) is not None:
                raise AlreadyExists(kind="tenant", name=tenant_id)
            row = TenantRow(
                id=tenant_id, display_name=display_name, max_in_flight=max_in_flight,
                created_at=unit.now,
            )  # fmt: skip
            unit.session.add(row)
            unit.bump()
            unit.audit("create_tenant", tenant_id, actor=actor, tenant_id=tenant_id)
            return row

        return await self._sessions.write(work)

    async def find(self, tenant_id: str) -> TenantRow:
        """A tenant that is not deleted.

        Raises:
            NotFound: there is none.
        """
        async with self._sessions.read() as session:
            row = await session.get(TenantRow, tenant_id)
        if row is None or row.deleted_at is not None:
            raise NotFound(kind="tenant", name=tenant_id)
        return row

    async def all(self) -> list[TenantRow]:
        """All tenants that are not deleted, by id."""
        query = select(TenantRow).where(TenantRow.deleted_at.is_(None)).order_by(TenantRow.id)
        async with self._sessions.read() as session:
            return [*(await session.execute(query)).scalars()]

    async def change(self, tenant_id: str, *, actor: str, **values: object) -> TenantRow:
        """Set `display_name` and / or `max_in_flight`.

        Raises:
            NotFound: there is no such tenant.
        """

        async def work(unit: Unit) -> TenantRow:
            row = await fetch_tenant(unit, tenant_id)
            for name in values.keys() & {"display_name", "max_in_flight"}:
                setattr(row, name, values[name])
            unit.bump()
            unit.audit(
                "change_tenant", tenant_id, actor=actor, tenant_id=tenant_id, evidence={**values}
            )
            return row

        return await self._sessions.write(work)

    async def delete(self, tenant_id: str, *, actor: str, reason: str | None = None) -> None:
        """Revoke its keys, retire its versions, and never give its id again.

        Raises:
            NotFound: there is no such tenant.
        """

        async def work(unit: Unit) -> None:
            row = await fetch_tenant(unit, tenant_id)
            row.deleted_at = unit.now
            for key in await unit.all(_live_keys(tenant_id)):
                key.revoked_at = unit.now
            versions = select(VersionRow).where(
                VersionRow.tenant_id == tenant_id, VersionRow.state != State.RETIRED.value
            )
            for version in await unit.all(versions):
                why = Move(event=Event.RETIRE, actor=actor, reason="the tenant is deleted")
                await moves.retire(unit, version, why)
            unit.bump()
            unit.audit("delete_tenant", tenant_id, actor=actor, tenant_id=tenant_id, reason=reason)

        await self._sessions.write(work)

    async def add_key(self, key: KeyRow, *, actor: str) -> KeyRow:
        """Store a key's hash; `created_at` is set here.

        Raises:
            NotFound: there is no such tenant.
            LimitExceeded: too many live keys.
        """

        async def work(unit: Unit) -> KeyRow:
            await fetch_tenant(unit, key.tenant_id)
            count = select(func.count()).select_from(_live_keys(key.tenant_id).subquery())
            if (await unit.session.execute(count)).scalar_one() >= MAX_KEYS_PER_TENANT:
                raise LimitExceeded(what="keys per tenant", limit=MAX_KEYS_PER_TENANT)
            key.created_at = unit.now
            row = await unit.session.merge(key)
            unit.bump()
            unit.audit(
                "create_key", key.id, actor=actor, tenant_id=key.tenant_id,
                evidence={"prefix": key.prefix, "scopes": key.scopes},
            )  # fmt: skip
            return row

        return await self._sessions.write(work)

    async def keys(self, tenant_id: str) -> list[KeyRow]:
        """All keys of a tenant, revoked ones too, oldest first."""
        query = select(KeyRow).where(KeyRow.tenant_id == tenant_id)
        async with self._sessions.read() as session:
            rows = (await session.execute(query.order_by(KeyRow.created_at, KeyRow.id))).scalars()
            return [*rows]

    async def find_key(self, key_hash: str) -> KeyRow | None:
        """The key with this hash, if it is neither revoked nor expired; else None."""
        query = select(KeyRow).where(KeyRow.key_hash == key_hash, KeyRow.revoked_at.is_(None))
        async with self._sessions.read() as session:
            row = (await session.execute(query)).scalar_one_or_none()
        if row is None or (row.expires_at is not None and row.expires_at <= self._sessions.clock()):
            return None
        return row

    async def revoke_key(self, tenant_id: str, key_id: str, *, actor: str) -> None:
        """Forbid a key; revoking it again changes nothing.

        Raises:
            NotFound: this tenant has no such key.
        """

        async def work(unit: Unit) -> None:
            row = await unit.session.get(KeyRow, key_id)
            if row is None or row.tenant_id != tenant_id:
                raise NotFound(kind="key", name=key_id)
            if row.revoked_at is None:
                row.revoked_at = unit.now
                unit.bump()
                unit.audit("revoke_key", key_id, actor=actor, tenant_id=tenant_id)

        await self._sessions.write(work)

    async def put_suite(self, suite: SuiteRow, *, actor: str) -> tuple[SuiteRow, bool]:
        """Store a suite's content under the next number; `(row, is_new)`.

        `id`, `number` and `created_at` are set here. The content of the latest number again makes
        nothing new; but a contamination report that comes with it takes the place of the stored
        one, which spoke of another training set. Without a report the stored one stays.

        Raises:
            NotFound: there is no such tenant.
        """

        async def work(unit: Unit) -> tuple[SuiteRow, bool]:
            await fetch_tenant(unit, suite.tenant_id)
            latest = await unit.one(_latest_suite(suite.tenant_id, suite.name))
            if latest is not None and latest.digest == suite.digest:
                if suite.contamination not in (None, latest.contamination):
                    _replace_report(unit, latest, suite.contamination, actor=actor)
                return latest, False
            suite.number = 1 if latest is None else latest.number + 1
            suite.id = f"{suite.tenant_id}/{suite.name}@{suite.number}"
            suite.created_at = unit.now
            row = await unit.session.merge(suite)
            evidence: Json = {"digest": suite.digest, "n_cases": suite.n_cases}
            evidence["contamination"] = _short_report(suite.contamination)
            unit.audit(
                "put_suite", suite.id, actor=actor, tenant_id=suite.tenant_id, evidence=evidence
            )
            return row, True

        return await self._sessions.write(work)

    async def find_suite(self, tenant_id: str, name: str) -> SuiteRow:
        """The latest content of a suite.

        Raises:
            NotFound: this tenant has no such suite.
        """
        async with self._sessions.read() as session:
            row = (await session.execute(_latest_suite(tenant_id, name))).scalar_one_or_none()
        if row is None:
            raise NotFound(kind="suite", name=f"{tenant_id}/{name}")
        return row

    async def suite(self, suite_id: str) -> SuiteRow:
        """One content, by `acme/refunds@2`.

        Raises:
            NotFound: there is none.
        """
        async with self._sessions.read() as session:
            row = await session.get(SuiteRow, suite_id)
        if row is None:
            raise NotFound(kind="suite", name=suite_id)
        return row

    async def suites(self, tenant_id: str) -> Sequence[SuiteRow]:
        """All contents of all suites of a tenant, each without its cases (`content`)."""
        query = (
            select(SuiteRow)
            .where(SuiteRow.tenant_id == tenant_id)
            .options(defer(SuiteRow.content, raiseload=True))
        )
        async with self._sessions.read() as session:
            rows = await session.execute(query.order_by(SuiteRow.name, SuiteRow.number))
            return [*rows.scalars()]


def _live_keys(tenant_id: str) -> Select[KeyRow]:
    return select(KeyRow).where(KeyRow.tenant_id == tenant_id, KeyRow.revoked_at.is_(None))


def _latest_suite(tenant_id: str, name: str) -> Select[SuiteRow]:
    return (
        select(SuiteRow)
        .where(SuiteRow.tenant_id == tenant_id, SuiteRow.name == name)
        .order_by(SuiteRow.number.desc())
        .limit(1)
    )


def _replace_report(unit: Unit, suite: SuiteRow, report: Json | None, *, actor: str) -> None:
    evidence: Json = {
        "contamination": _short_report(report),
        "before": _short_report(suite.contamination),
    }
    suite.contamination = report
    unit.audit("compare_suite", suite.id, actor=actor, tenant_id=suite.tenant_id, evidence=evidence)


def _short_report(report: Json | None) -> Json | None:
    """What the audit keeps of a contamination report."""
    fields = ("training_digest", "n_documents", "n_leaked", "fraction")
    return None if report is None else {name: report[name] for name in fields}
