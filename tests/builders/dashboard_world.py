"""A fleet with an hour behind it in a real registry: versions, verdicts, reports, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.contract import EngineReport, VersionReport, VersionState
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from tests.builders.controller import Controller, a_controller
from tests.builders.gate_reports import report_of
from tests.builders.lru_fleet import LruEngine, names_of, zipf_hour
from tests.builders.registry import an_upload, claim, digest_of, switch

HOUR = 3600.0
JUDGED = "acme/support@3"
"""Failed on a segment, with a whole report."""
WAITING = "globex/sql@2"
"""In the gate."""


@dataclass
class World:
    """Engines in miniature and the versions that they hold."""

    engines: dict[str, LruEngine]
    names: list[str]
    url: str
    """Where their traces are served."""
    revision: int = 0
    outages: dict[str, list[VersionReport]] = field(default_factory=dict)

    def reports(self) -> list[EngineReport]:
        """What each engine would report now."""
        return [self.report(engine_id) for engine_id in self.engines]

    def report(self, engine_id: str, **changes: Any) -> EngineReport:
        """What one engine would report now."""
        whole = self.engines[engine_id].report(self.names)
        given: dict[str, Any] = {
            "url": f"{self.url}/{engine_id}",
            "build": "vllm 0.32.0 / loraplane 0.1.0",
        }
        given["revision"] = self.revision
        outages = self.outages.get(engine_id, [])
        taken = {outage.name for outage in outages}
        versions = [version for version in whole.versions if version.name not in taken]
        return _changed(whole, {**given, "versions": versions + outages, **changes})


def a_world(n_adapters: int = 40) -> World:
    """Two idle engines; their traces are not served yet."""
    engines = {name: LruEngine(name, seed=at) for at, name in enumerate(("engine-0", "engine-1"))}
    return World(engines, names_of(n_adapters), url="http://127.0.0.1:9")


async def fill_registry(
    folder: Path, world: World, *, now: float, n_requests: int = 1800, step_seconds: float = 30.0
) -> None:
    """Lead the versions through their lives, then let the engines report for an hour."""
    async with a_controller(folder) as controller:
        controller.clock.now = now - 26 * HOUR
        for tenant in sorted({name.split("/")[0] for name in world.names}):
            await (await controller.client()).post("/v1/tenants", json={"id": tenant})
        for name in world.names:
            await _make_live(controller, name)
        await _tell_of_the_gate(controller, now)
        quarantined = VersionReport(
            "stark/triage@1", digest_of("stark/triage@1"), VersionState.QUARANTINED,
            reason="non_finite", detail="NaN in the first answer after a load",
        )  # fmt: skip
        world.outages["engine-1"] = [quarantined]
        await _live_an_hour(controller, world, now=now, n=n_requests, step=step_seconds)


async def _make_live(controller: Controller, name: str) -> None:
    tenant, _, rest = name.partition("/")
    adapter, _, number = rest.partition("@")
    for version in range(1, int(number) + 1):
        upload = an_upload(f"{name} {version}", tenant=tenant, adapter=adapter, promote_mode="auto")
        # Whole reports are large: one adapter has them.
        kind = "passing" if (tenant, adapter) == ("acme", "support") else None
        row = await _judged(controller, upload, Verdict.PASS, kind)
        controller.clock.advance(40.0)
        await switch(controller.context.repository, row)
        controller.clock.advance(60.0 if version < int(number) else 1.0)


async def _judged(
    controller: Controller, upload: Any, verdict: Verdict, kind: str | None
) -> VersionRow:
    repository, clock = controller.context.repository, controller.clock
    row, _ = await repository.versions.acknowledge(upload)
    clock.advance(3.0)
    await _accept(repository, row)
    clock.advance(95.0)
    token = await claim(repository, row, State.EVALUATING)
    report = {**report_of(kind), "version": row.id} if kind else {"verdict": verdict}
    evidence = {"reasons": report.get("reasons", [])}
    assert await repository.work.conclude(
        row.id, token, verdict=verdict, report=report, evidence=evidence
    )
    return row


async def _accept(repository: Repository, row: VersionRow) -> None:
    token = await claim(repository, row, State.VALIDATING)
    assert await repository.work.apply(row.id, token, Move(event=Event.ACCEPT), rank=16)


async def _tell_of_the_gate(controller: Controller, now: float) -> None:
    """One version that failed lately, one that is in the gate."""
    controller.clock.now = now - 2 * HOUR
    upload = an_upload("third", tenant="acme", adapter="support", promote_mode="auto")
    assert (await _judged(controller, upload, Verdict.FAIL, "failing_on_a_segment")).id == JUDGED
    controller.clock.now = now - 400.0
    repository = controller.context.repository
    row, _ = await repository.versions.acknowledge(
        an_upload("second", tenant="globex", adapter="sql", promote_mode="auto")
    )
    await _accept(repository, row)
    token = await claim(repository, row, State.EVALUATING)
    progress = {"stage": "verify", "done": 212, "total": 640}
    assert await repository.work.apply(row.id, token, progress=progress, keep_lease=True)


async def _live_an_hour(
    controller: Controller, world: World, *, now: float, n: int, step: float
) -> None:
    fleet = controller.context.repository.fleet
    requests = list(zipf_hour(world.names, start=now - HOUR, seconds=HOUR, n_requests=n))
    world.revision = await fleet.revision()
    at, place = now - HOUR, 0
    while at < now:
        at = min(now, at + step)
        while place < len(requests) and requests[place][0] <= at:
            moment, name = requests[place]
            _engine_of(world, name).use(name, moment)
            place += 1
        controller.clock.now = at
        for report in world.reports():
            await fleet.record_report(report)


def _engine_of(world: World, name: str) -> LruEngine:
    """A tenant's requests all go to one engine."""
    tenants: Sequence[str] = sorted({one.split("/")[0] for one in world.names})
    engines = list(world.engines.values())
    return engines[tenants.index(name.split("/")[0]) % len(engines)]


def _changed(report: EngineReport, changes: dict[str, Any]) -> EngineReport:
    given = {name: getattr(report, name) for name in report.__struct_fields__}
    return EngineReport(**{**given, **changes})
