"""What engines wait for that the gate has to measure first: for the API and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, computed_field

from serving.controller.clearance import (
    MAX_BLOCKERS,
    blockers,
    is_waiting,
    why_not_measurable,
)
from serving.controller.context import ControllerContext
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.staleness import Proof, kind_of


class Blocker(BaseModel):
    """A live version for whose sake a kind of engine stays out."""

    version: str
    verdict: str | None
    """On this kind; null: not measured yet."""
    why: str | None


class GateWait(BaseModel):
    """Why engines of one kind do not answer tenants yet."""

    engine_build: str
    base_revision: str
    dtype: str
    n_live: int
    """Live versions that have to be measured."""
    n_blocking: int
    n_unmeasured: int
    blocked_by: list[Blocker]
    """The first few; those that were measured and need a person come first."""
    not_measurable: str | None
    """Why this controller's gate will never measure on it, as long as both are as they are."""

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def summary(self) -> str:
        """In one line."""
        if self.not_measurable is not None:
            return self.not_measurable
        text = f"{self.n_live - self.n_unmeasured} of {self.n_live} live versions measured"
        refused = [item for item in self.blocked_by if item.verdict is not None]
        named = [f"{i.version} {i.verdict}" + (f": {i.why}" if i.why else "") for i in refused]
        n_refused = self.n_blocking - self.n_unmeasured
        return "; ".join([text, f"{n_refused} keep it out", *named]) if n_refused else text


async def find_gate_waits(
    context: ControllerContext, engines: Sequence[ObservedEngine]
) -> dict[str, GateWait]:
    """By id, the engines that wait for the gate; what each waits for is the registry's word."""
    own_base = "" if context.card is None else context.card.revision
    kinds = {
        engine.report.engine_id: kind_of(engine.report, own_base=own_base)
        for engine in engines
        if is_waiting(engine.report)
    }
    described = {
        kind: await _describe(context, kind, own_base=own_base) for kind in set(kinds.values())
    }
    return {engine_id: described[kind] for engine_id, kind in kinds.items()}


async def _describe(context: ControllerContext, kind: Proof, *, own_base: str) -> GateWait:
    standings = await context.repository.clearances.standings(kind)
    found = blockers(standings)
    return GateWait(
        engine_build=kind.engine_build,
        base_revision=kind.base_revision,
        dtype=kind.dtype,
        n_live=len(standings),
        n_blocking=len(found),
        n_unmeasured=sum(item.found is None for item in found),
        blocked_by=[Blocker(**item.to_json()) for item in found[:MAX_BLOCKERS]],
        not_measurable=why_not_measurable(kind, own_base=own_base),
    )
