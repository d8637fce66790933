"""Retirement: superseded versions whose rollback window is over, and retired ones until released.

A retired version has left the snapshot; engines remove it when its in-flight is 0 and then no
longer name it. An engine that is unreachable and held it when last heard of may hold it still: that
delays the release until the engine reports again or an operator says that it is gone.
"""

from __future__ import annotations

from serving.controller.lifecycle import Event, State
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.observation import observe_version
from serving.controller.steps.outcome import Done, Outcome, Retry

_LOOK_SECONDS_MAX = 60.0


async def retire(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Retire a superseded version, or release a retired one once no engine can hold it."""
    if row.state == State.SUPERSEDED:
        reason = "the rollback window is over"
        await lease.apply(move=Move(event=Event.RETIRE, reason=reason))
        return Done()
    fleet = context.repository.fleet
    # Read before the reports: an engine at this revision has seen that the version is gone.
    revision = await fleet.revision()
    seen = observe_version(
        await fleet.engines(),
        row.id,
        attempt=row.attempt,
        now=context.clock(),
        timeout_seconds=context.settings.engine_timeout_seconds,
        revision=revision,
        made_at=row.created_at,
    )
    waiting = {"holding": seen.holding, "behind": seen.behind, "unknown": seen.unknown}
    if any(waiting.values()):
        pause = min(1.0 * 1.5 ** min(row.attempts, 100), _LOOK_SECONDS_MAX)
        detail = {name: list(engines) for name, engines in waiting.items()}
        return Retry("waiting_for_release", after_seconds=pause, detail=detail)
    await lease.apply(released_at=context.clock(), error=None, progress=None)
    return Done()
