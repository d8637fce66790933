"""Which kinds of engines may answer tenants, and how live versions stand on those that may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select

from serving.controller.clearance import GATE, Standing, UpgradeMode
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.rechecks import is_proof
from serving.controller.registry.tables import (
    ClearedKindRow,
    FleetRow,
    GateReportRow,
    Json,
    VersionRow,
)
from serving.controller.registry.transactions import FLEET, Sessions, Unit
from serving.controller.staleness import Proof


@dataclass(frozen=True, slots=True)
class ClearanceState:
    """What is written down."""

    is_gated: bool
    cleared: frozenset[Proof]


class Clearances:
    """Cleared kinds; a row stays for good, so that nothing that serves is shut out later."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def state(self) -> ClearanceState:
        """The present mode and every cleared kind."""
        mode = select(FleetRow.upgrade_mode).where(FleetRow.name == FLEET)
        async with self._sessions.read() as session:
            present = (await session.execute(mode)).scalar_one()
            rows = (await session.execute(select(ClearedKindRow))).scalars().all()
        return ClearanceState(present == GATE, frozenset(_proof(row) for row in rows))

    async def switch(self, mode: UpgradeMode, serving: Mapping[Proof, str]) -> bool:
        """Follow the setting from now on; with `gate`, `serving` kinds are cleared with it.

        One write, so that no snapshot ever shuts out who serves. False: it was so already.
        """

        async def work(unit: Unit) -> bool:
            before = unit.fleet.upgrade_mode or "probe"
            if before == mode:
                return False
            unit.fleet.upgrade_mode = mode
            unit.audit(
                "upgrade_mode", "fleet", actor="controller",
                reason=f"LORAPLANE_UPGRADE={mode}", evidence={"from": before, "to": mode},
            )  # fmt: skip
            for kind, reason in serving.items() if mode == GATE else ():
                await _clear(unit, kind, actor="controller", reason=reason, evidence=None)
            unit.bump()
            return True

        return await self._sessions.write(work)

    async def clear(
        self, kind: Proof, *, actor: str, reason: str, evidence: Json | None = None
    ) -> bool:
        """Let tenants reach engines of this kind; False: they may already."""

        async def work(unit: Unit) -> bool:
            return await _clear(unit, kind, actor=actor, reason=reason, evidence=evidence)

        return await self._sessions.write(work)

    async def standings(self, kind: Proof) -> list[Standing]:
        """How each live version that was ever measured stands on `kind`, by name."""
        own = GateReportRow.version_id == VersionRow.id
        live = (
            select(VersionRow.id, VersionRow.verdict, VersionRow.recheck)
            .where(VersionRow.state == State.LIVE.value, exists().where(own, is_proof()))
            .order_by(VersionRow.id)
        )
        measured = (
            select(GateReportRow.version_id, GateReportRow.verdict)
            .join(VersionRow, own)
            .where(
                VersionRow.state == State.LIVE.value,
                GateReportRow.engine_build == kind.engine_build,
                GateReportRow.base_revision == kind.base_revision,
                GateReportRow.dtype == kind.dtype,
            )
            .order_by(GateReportRow.attempt, GateReportRow.recheck)
        )
        async with self._sessions.read() as session:
            rows = (await session.execute(live)).all()
            found = (await session.execute(measured)).all()
        latest = {name: Verdict(verdict) for name, verdict in found if verdict is not None}
        return [
            Standing(
                version=name,
                needed=None if verdict is None else Verdict(verdict),
                found=latest.get(name),
                why=_why(recheck or {}, kind),
            )
            for name, verdict, recheck in rows
        ]


async def _clear(
    unit: Unit, kind: Proof, *, actor: str, reason: str, evidence: Json | None
) -> bool:
    key = (kind.engine_build, kind.base_revision, kind.dtype)
    if await unit.session.get(ClearedKindRow, key) is not None:
        return False
    row = ClearedKindRow(
        engine_build=kind.engine_build,
        base_revision=kind.base_revision,
        dtype=kind.dtype,
        cleared_at=unit.now,
        cleared_by=actor,
        reason=reason,
    )
    unit.session.add(row)
    unit.audit(
        "clear_engine_kind", kind.engine_build, actor=actor, reason=reason,
        evidence={"kind": kind.to_json(), **(evidence or {})},
    )  # fmt: skip
    unit.bump()
    return True


def _proof(row: ClearedKindRow) -> Proof:
    return Proof(row.engine_build, row.base_revision, row.dtype)


def _why(recheck: Mapping[str, Any], kind: Proof) -> str | None:
    """What its latest re-check says, where that was about this kind."""
    if recheck.get("error"):
        error = recheck["error"]
        return f"put off: {error.get('code')}"
    if (recheck.get("reason") or {}).get("now") != kind.to_json():
        return None
    reasons = recheck.get("reasons") or ()
    return str(reasons[0].get("text") or reasons[0].get("code")) if reasons else None
