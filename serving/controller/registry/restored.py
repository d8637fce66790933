"""A registry that came back from a backup, behind what engines follow: it goes on above them.

Engines take over nothing that is older than what they follow, so a registry with a lower revision
would not be heard of until it had caught up by chance.
"""

from __future__ import annotations

from sqlalchemy import select

from adapters.errors import NameError_
from adapters.identity import parse_version_id
from serving.contract import EngineReport
from serving.controller.errors import LimitExceeded
from serving.controller.registry.tables import AdapterRow, Json, VersionRow
from serving.controller.registry.transactions import Unit

LEAP = 1_000_000
"""Engines differ by fewer revisions: the first one that asks lifts the registry above all of them,
so none is left that follows the same number with other content. Arbitrary."""
MAX_DISTANCE = 10**9
"""Writes that a backup may have missed, a leap for each restore among them; arbitrary."""
MAX_LIFTED = 2**52
"""No lift goes beyond: half of what every JSON reader holds exactly is left for writes."""


def go_on_above(unit: Unit, revision: int, *, engine_id: str) -> bool:
    """Give the present content a revision far above an engine's; False: it has reached that.

    One audited write, also where every engine asks at once.

    Raises:
        LimitExceeded: no backup of this fleet can be so far behind; nothing is written.
    """
    found = unit.fleet.revision
    if found >= revision:
        return False
    limit = min(found + MAX_DISTANCE, MAX_LIFTED - LEAP)
    if revision > limit:
        raise LimitExceeded(what=f"the revision that engine {engine_id} follows", limit=limit)
    unit.fleet.revision = revision + LEAP
    unit.bump()
    unit.fleet.restored_revision = unit.fleet.revision
    evidence: Json = {"engine": engine_id, "from": found, "to": unit.fleet.revision}
    unit.audit(
        "registry_restored", "fleet", actor="controller", evidence=evidence,
        reason=f"engine {engine_id} follows revision {revision}, this registry knew {found}",
    )  # fmt: skip
    return True


def may_hold_unknown(unit: Unit, now: EngineReport) -> bool:
    """Whether an engine follows what was given out before the registry was restored. Pure."""
    restored = unit.fleet.restored_revision
    return restored is not None and now.revision < restored


async def audit_unknown(unit: Unit, before: EngineReport | None, now: EngineReport) -> None:
    """Write down versions that an engine holds from before, and that this registry never knew.

    The engine drops them, because the snapshot is the desired state. Where the adapter is still
    known, their numbers are not given again: clients may have pinned them.
    """
    if not may_hold_unknown(unit, now):
        return
    told = {item.name for item in before.versions} if before and _is_same(before, now) else set()
    known = set((await unit.session.execute(select(VersionRow.id))).scalars())
    for item in now.versions:
        if item.name in told or item.name in known:
            continue
        try:
            version = parse_version_id(item.name)
        except NameError_:
            continue
        adapter = await unit.session.get(AdapterRow, (version.tenant, version.adapter))
        if adapter is not None:
            adapter.next_number = max(adapter.next_number, version.number + 1)
        unit.audit(
            "engine_holds_unknown", item.name, actor=f"engine:{now.engine_id}",
            tenant_id=version.tenant, evidence={"digest": item.digest, "state": item.state.value},
            reason="made after the backup that the registry was restored from; the engine drops it",
        )  # fmt: skip


def _is_same(before: EngineReport, now: EngineReport) -> bool:
    """Whether the report before was taken after the restore, too: then it was told of already."""
    return (before.started_at, before.revision) == (now.started_at, now.revision)
