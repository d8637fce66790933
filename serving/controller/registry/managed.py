"""Adapters that something outside keeps: which object manages which adapter, and what it gave.

An object may vanish while nobody looks, so what its deletion shall do is remembered here and not
only in the object. Who the objects are (Kubernetes resources) is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.orm import defer

from serving.controller.lifecycle import Event, State
from serving.controller.registry import moves
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import ManagedRow, VersionRow
from serving.controller.registry.transactions import MAX_KEYS, Sessions, Unit
from serving.controller.registry.versions import Upload, acknowledge_upload, reevaluate_version

_UNJUDGED = frozenset({State.VALIDATING, State.EVALUATING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """The object that manages an adapter."""

    uid: str
    namespace: str
    name: str
    retires: bool
    """Whether its deletion retires the versions that it registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedAdapter(Manager):
    """What is remembered of a managed adapter."""

    tenant: str
    adapter: str
    generation: int
    """Of the object, when its source was last found to be what is registered."""
    source_uri: str
    source_mark: str
    """Tells whether the source has changed since; opaque."""
    version_id: str
    """The version that the source gave."""

    @property
    def key(self) -> tuple[str, str]:
        """(tenant, adapter)."""
        return self.tenant, self.adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at a source gave."""

    generation: int
    source_uri: str
    source_mark: str


class Managed:
    """Managed adapters, at most one manager each."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def all(self, *, keys: Collection[tuple[str, str]] | None = None) -> list[ManagedAdapter]:
        """Every managed adapter; `keys`: of these (tenant, adapter), and maybe others."""
        query = select(ManagedRow)
        if keys is not None and len(keys) <= MAX_KEYS:
            query = query.where(tuple_(ManagedRow.tenant_id, ManagedRow.adapter).in_(keys))
        async with self._sessions.read() as session:
            return [_managed(row) for row in (await session.execute(query)).scalars()]

    async def find(self, tenant: str, adapter: str) -> ManagedAdapter | None:
        """One managed adapter; None: nothing manages it."""
        async with self._sessions.read() as session:
            row = await session.get(ManagedRow, (tenant, adapter))
            return None if row is None else _managed(row)

    async def versions(self, ids: Sequence[str]) -> list[VersionRow]:
        """Versions by id, without their files and load probes, which are large."""
        large = (VersionRow.files, VersionRow.probe, VersionRow.probes)
        query = select(VersionRow).options(*(defer(item, raiseload=True) for item in large))
        found: list[VersionRow] = []
        async with self._sessions.read() as session:
            for start in range(0, len(ids), MAX_KEYS):
                part = query.where(VersionRow.id.in_(ids[start : start + MAX_KEYS]))
                found += (await session.execute(part)).scalars()
        return found

    async def register(
        self, upload: Upload, manager: Manager, found: Found
    ) -> tuple[VersionRow, bool]:
        """Make the version of these bytes and remember who gave it, at once; `(row, is_new)`.

        The same bytes are the same version. Another version that this manager gave before and that
        is still on its way no longer goes live by itself.

        Raises:
            NotFound: no such tenant.
        """

        async def work(unit: Unit) -> tuple[VersionRow, bool]:
            version, is_new = await acknowledge_upload(unit, upload)
            await unit.session.flush()
            key = (upload.tenant_id, upload.adapter)
            row = await unit.session.get(ManagedRow, key)
            if row is not None and row.version_id != version.id:
                await _hold_back(unit, row.version_id, version, actor=upload.created_by)
            if row is None:
                row = ManagedRow(tenant_id=key[0], adapter=key[1], managed_since=unit.now)
                unit.session.add(row)
            _take_over(unit, row, manager, actor=upload.created_by)
            row.version_id = version.id
            row.generation = found.generation
            row.source_uri, row.source_mark = found.source_uri, found.source_mark
            if State(version.state) in _UNJUDGED:
                version.promote_mode = upload.promote_mode
            return version, is_new

        return await self._sessions.write(work)

    async def follow(
        self, tenant: str, adapter: str, manager: Manager, *, actor: str, found: Found | None = None
    ) -> None:
        """Remember another manager or wish, or that a look found what is registered already."""

        async def work(unit: Unit) -> None:
            row = await unit.session.get(ManagedRow, (tenant, adapter))
            if row is None:
                return
            _take_over(unit, row, manager, actor=actor)
            if found is not None:
                row.generation = found.generation
                row.source_uri, row.source_mark = found.source_uri, found.source_mark

        await self._sessions.write(work)

    async def wish(
        self, version_id: str, *, promote_mode: str, suite_id: str | None, actor: str
    ) -> None:
        """Let a version that the gate has not judged go on as its manager wants it now."""

        async def work(unit: Unit) -> None:
            row = await moves.fetch_version(unit, version_id)
            if State(row.state) not in _UNJUDGED:
                return
            is_changed = row.promote_mode != promote_mode
            row.promote_mode = promote_mode
            # A suite is not exchanged under a running evaluation.
            if row.state == State.VALIDATING and row.suite_id != suite_id:
                row.suite_id, is_changed = suite_id, True
            if is_changed:
                unit.audit(
                    "change_wish", row.id, actor=actor, tenant_id=row.tenant_id,
                    evidence={"promote": promote_mode, "suite": row.suite_id},
                )  # fmt: skip

        await self._sessions.write(work)

    async def ask_again(
        self, version_id: str, *, promote_mode: str, suite_id: str | None, actor: str
    ) -> None:
        """Back to the gate with another suite.

        Raises:
            NotFound, IllegalTransition: it moved on meanwhile.
        """

        async def work(unit: Unit) -> None:
            row = await moves.fetch_version(unit, version_id)
            reason = f"the suite is {suite_id or 'the built-in probe'} now"
            reevaluate_version(unit, row, Move(event=Event.REEVALUATE, actor=actor, reason=reason))
            row.suite_id, row.promote_mode = suite_id, promote_mode

        await self._sessions.write(work)

    async def release(self, record: ManagedAdapter, *, actor: str, retire: bool) -> list[str]:
        """Forget the manager of `record`, if it is still that one; the versions that were retired.

        `retire`: those that `actor` registered, whatever they do; `False` touches none.
        """

        async def work(unit: Unit) -> list[str]:
            row = await unit.session.get(ManagedRow, record.key)
            if row is None or row.uid != record.uid:
                return []
            retired = await _retire_all(unit, record, actor=actor) if retire else []
            await unit.session.delete(row)
            unit.audit(
                "unmanage_adapter", "/".join(record.key), actor=actor, tenant_id=record.tenant,
                reason="its object is gone", evidence={"uid": record.uid, "retired": retired},
            )  # fmt: skip
            return retired

        return await self._sessions.write(work)


def _managed(row: ManagedRow) -> ManagedAdapter:
    return ManagedAdapter(
        tenant=row.tenant_id,
        adapter=row.adapter,
        uid=row.uid,
        namespace=row.namespace,
        name=row.name,
        retires=row.retires,
        generation=row.generation,
        source_uri=row.source_uri,
        source_mark=row.source_mark,
        version_id=row.version_id,
    )


def _take_over(unit: Unit, row: ManagedRow, manager: Manager, *, actor: str) -> None:
    if row.uid != manager.uid:
        evidence = {"uid": manager.uid, "before": row.uid}
        unit.audit(
            "manage_adapter", f"{row.tenant_id}/{row.adapter}", actor=actor,
            tenant_id=row.tenant_id, evidence=evidence,
        )  # fmt: skip
    row.uid, row.namespace, row.name = manager.uid, manager.namespace, manager.name
    row.retires = manager.retires


async def _hold_back(unit: Unit, version_id: str, wanted: VersionRow, *, actor: str) -> None:
    """Let a version that is no longer wanted not go live after all."""
    other = await moves.fetch_version(unit, version_id)
    is_going_back = other.number > wanted.number
    if is_going_back and State(other.state) in _UNJUDGED and other.promote_mode == "auto":
        other.promote_mode = "manual"
        unit.audit(
            "hold", other.id, actor=actor, tenant_id=other.tenant_id,
            reason=f"{wanted.id} is wanted now",
        )  # fmt: skip
    if is_going_back:
        await moves.withdraw_staging(unit, wanted, actor=actor, reason=f"{wanted.id} is wanted now")


async def _retire_all(unit: Unit, record: ManagedAdapter, *, actor: str) -> list[str]:
    query = select(VersionRow).where(
        VersionRow.tenant_id == record.tenant,
        VersionRow.adapter == record.adapter,
        VersionRow.created_by == actor,
        VersionRow.state.not_in([State.RETIRED.value, State.UPLOADING.value]),
    )
    versions = await unit.all(query.order_by(VersionRow.number))
    for version in versions:
        reason = "its object was deleted, with deletionPolicy Retire"
        await moves.retire(unit, version, Move(event=Event.RETIRE, actor=actor, reason=reason))
    return [version.id for version in versions]
