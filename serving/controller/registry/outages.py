"""Audit rows for versions that an engine took out of service, once each and not once a report."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from serving.contract import EngineReport, VersionReport, VersionState
from serving.controller.registry.tables import AuditRow, Json, VersionRow
from serving.controller.registry.transactions import Unit

_ACTION = {
    VersionState.FAILED: "engine_failed",
    VersionState.QUARANTINED: "engine_quarantined",
}


def find_outages(before: EngineReport | None, now: EngineReport) -> Iterator[VersionReport]:
    """Versions that are failed or quarantined and were not so in the engine's last report. Pure."""
    known = {item.name: (item.state, item.attempt) for item in before.versions} if before else {}
    for item in now.versions:
        if item.state in _ACTION and known.get(item.name) != (item.state, item.attempt):
            yield item


async def audit_outages(unit: Unit, before: EngineReport | None, now: EngineReport) -> None:
    """Write down what is new in `now`: once for an engine, a version, its attempt and the state.

    An engine tries a failed version again and again, and may be restarted: the trail itself knows
    what it has said.
    """
    for item in find_outages(before, now):
        row = await unit.session.get(VersionRow, item.name)
        if row is None or await _is_known(unit, now.engine_id, item):
            continue
        evidence: Json = {
            "engine": now.engine_id,
            "build": now.build,
            "attempt": item.attempt,
            "reason": item.reason,
            "detail": item.detail,
        }
        unit.audit(
            _ACTION[item.state], item.name, actor=f"engine:{now.engine_id}",
            tenant_id=row.tenant_id, reason=item.reason, evidence=evidence,
        )  # fmt: skip


async def _is_known(unit: Unit, engine_id: str, item: VersionReport) -> bool:
    query = select(AuditRow.evidence).where(
        AuditRow.subject == item.name,
        AuditRow.action == _ACTION[item.state],
        AuditRow.actor == f"engine:{engine_id}",
    )
    told = (await unit.session.execute(query)).scalars()
    return any(evidence is not None and evidence["attempt"] == item.attempt for evidence in told)
