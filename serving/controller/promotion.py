"""Promotion as people and objects ask for it: with the question whether the proof still holds."""

from __future__ import annotations

from typing import Any

from serving.controller.context import ControllerContext
from serving.controller.errors import NothingToRollBack
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import find_stale, running_now


async def promote_version(
    context: ControllerContext, version_id: str, *, actor: str, override_reason: str | None = None
) -> VersionRow:
    """Into staging; through the gate again first where the fleet has moved on from the proof.

    Raises:
        NotFound, IllegalTransition, OverrideNeeded: see `Versions.promote`.
    """
    row = await context.repository.versions.promote(
        version_id,
        actor=actor,
        override_reason=override_reason,
        stale=await _stale(context, version_id),
    )
    context.hint()
    return row


async def restore_version(
    context: ControllerContext, row: VersionRow, *, actor: str, reason: str
) -> VersionRow:
    """Make a superseded version live again: by a rollback where that leads to it, else promoted.

    Raises:
        NotFound, IllegalTransition, OverrideNeeded: see `Versions.promote`.
    """
    aliases = await context.repository.fleet.aliases(keys=[(row.tenant_id, row.adapter)])
    previous = {(a.tenant_id, a.adapter): a.previous_number for a in aliases}
    if previous.get((row.tenant_id, row.adapter)) == row.number:
        try:
            return await context.repository.versions.roll_back(
                row.tenant_id,
                row.adapter,
                actor=actor,
                reason=reason,
                rollback_seconds=context.settings.rollback_window_seconds,
            )
        except NothingToRollBack:
            # Its window ended a moment ago.
            pass
    return await promote_version(context, row.id, actor=actor)


async def _stale(context: ControllerContext, version_id: str) -> dict[str, Any] | None:
    """Why the version's proof does not cover what ready engines run; None: it does."""
    if context.card is None:
        return None
    running = running_now(
        await context.repository.fleet.engines(),
        base_revision=context.card.revision,
        now=context.clock(),
        timeout_seconds=context.settings.engine_timeout_seconds,
        is_gated=context.settings.is_gated,
    )
    proofs = await context.repository.rechecks.proofs(version_id)
    if context.settings.is_gated and set(proofs) & set(running):
        # It is measured on the other kinds while it is staged.
        return None
    reason = find_stale(proofs, running)
    return None if reason is None else reason.to_json()
