"""An engine of a kind that is not cleared, through its real front door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from serving.contract import EngineKind, gate_key
from tests.builders.snapshots import SECRET
from tests.fakes.engine_port import DESCRIPTION
from tests.fakes.front_door import Served, behind_the_door

ANOTHER = EngineKind("another build", "a base", "float32")


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Served]:
    async with behind_the_door(tmp_path, cleared=[ANOTHER]) as tiny:
        yield tiny


def publish(served: Served, cleared: list[EngineKind] | None) -> int:
    before = served.world.link.snapshot
    assert before is not None
    revision = before.revision + 1
    served.world.link.publish(msgspec.structs.replace(before, revision=revision, cleared=cleared))
    return revision


async def test_it_has_loaded_and_proven_everything_and_says_what_it_waits_for(
    waiting: Served,
) -> None:
    async with waiting.client() as client:
        ready = await client.get("/ready")
    world = waiting.world
    await world.until(lambda: world.link.last_report and world.link.last_report.waits_for_gate)
    report = world.link.last_report

    assert ready.status_code == 503
    assert ready.json()["waiting_for"].startswith("the gate of build fake 1, base unknown")
    assert report is not None
    assert (report.is_ready, report.base_revision) == (False, "unknown")
    assert {v.name for v in report.versions if v.state == "proven"} == {
        "acme/support@1", "beta/sql@1",
    }  # fmt: skip


async def test_tenants_are_told_to_come_back_and_the_gate_is_answered(waiting: Served) -> None:
    refused = await waiting.ask()
    async with waiting.client(gate_key(SECRET)) as gate:
        names = ("acme/support@1", "base")
        answers = [await gate.post("/v1/completions", json={"model": name}) for name in names]
    async with waiting.client() as client:
        listing = await client.get("/v1/models")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json()["error"]["code"] == "waiting_for_gate"
    assert listing.status_code == 503
    assert [answer.json()["model"] for answer in answers] == ["acme/support@1", "base"]


async def test_once_its_kind_is_cleared_it_is_ready_and_stays_so(waiting: Served) -> None:
    runtime = waiting.world.runtime
    publish(waiting, [ANOTHER, DESCRIPTION.kind])

    await waiting.world.until(lambda: runtime.readiness() is None)

    assert (await waiting.ask()).status_code == 200
    # A registry from a backup may have forgotten the clearance.
    revision = publish(waiting, [])
    await waiting.world.until(lambda: runtime.agent.followed_revision == revision)
    assert runtime.readiness() is None
    assert (await waiting.ask()).status_code == 200


async def test_a_later_life_on_the_saved_snapshot_waits_again(waiting: Served) -> None:
    world = waiting.world
    await world.runtime.stop()
    world.link.is_down = True

    await world.run()

    await world.until(lambda: world.runtime.agent.is_settled)
    assert world.runtime.waits_for_gate
    assert world.runtime.readiness() is not None
