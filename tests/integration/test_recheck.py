"""Re-checks through the real gate: a version in service is measured again on a new engine build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.registry.policies import PolicyScope
from serving.controller.steps import candidate
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import random_adapter


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(candidate, "_PAUSE_SECONDS", 0.05)
    async with gate_world(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def live(world: GateWorld, tmp_path: Path) -> str:
    version = await world.push(random_adapter(tiny_base(), tmp_path / "adapter", seed=1))
    assert await world.drive(version) == State.LIVE
    return version


async def upgrade(world: GateWorld, build: str) -> None:
    """The engine comes back as another build, and its report is there."""
    world.engine.build = build
    await world.link.report(world.engine.report())


async def actions(world: GateWorld, version: str) -> list[str]:
    rows = await world.steps.repository.audit.latest(subject=version)
    return [row.action for row in rows[::-1]]


def counted(world: GateWorld, verdict: str) -> float | None:
    return world.steps.metrics.get_sample_value(
        "loraplane_gate_rechecks_total", {"verdict": verdict}
    )


async def test_a_live_version_is_measured_again_on_a_new_build_and_stays_live(
    world: GateWorld, live: str
) -> None:
    before = (await world.steps.snapshot()).aliases
    assert not await world.steps.turn("recheck"), "the fleet is what the version was proven on"
    await upgrade(world, "fake 2")

    assert await world.steps.turn("recheck")

    row = await world.steps.row(live)
    assert row.state == State.LIVE
    assert row.recheck is not None
    assert (row.recheck["verdict"], row.recheck["reason"]["changed"]) == ("PASS", ["engine_build"])
    assert (await world.report(live))["engine"]["build"] == "fake 2"
    assert (row.lock_token, row.progress, row.gate_phase) == (None, None, None)
    assert (await world.steps.snapshot()).aliases == before
    assert (await actions(world, live))[-1] == "recheck_passed"
    assert counted(world, "PASS") == 1
    assert not await world.steps.turn("recheck"), "one proof for each build is enough"


async def test_a_re_check_waits_for_pushes_and_for_the_reference(
    world: GateWorld, live: str, tmp_path: Path
) -> None:
    window = (await world.steps.row(live)).next_attempt_at
    await upgrade(world, "fake 2")
    second = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))
    assert not await world.steps.turn("recheck"), "pushes come first"
    await world.steps.repository.versions.retire(second, actor="ann")
    world.reference.failures_left = 1

    assert await world.steps.turn("recheck")

    row = await world.steps.row(live)
    assert row.recheck is not None
    assert row.recheck["error"]["code"] == "reference_failed"
    assert (row.state, row.next_attempt_at, row.error) == (State.LIVE, window, None)
    assert not await world.steps.turn("recheck"), "it waits for its next try"


async def test_a_build_that_answers_otherwise_fails_the_re_check_and_the_policy_rolls_back(
    world: GateWorld, live: str, tmp_path: Path
) -> None:
    second = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))
    assert await world.drive(second) == State.LIVE
    policy: dict[str, Any] = {"on_recheck_fail": "rollback"}
    await world.steps.repository.policies.put(PolicyScope("acme"), policy, actor="root")
    world.engine.faults.answers_with_base = True
    await upgrade(world, "fake 2")

    assert await world.steps.turn("recheck")

    row = await world.steps.row(second)
    assert row.recheck is not None
    assert (row.state, row.verdict, row.recheck["verdict"]) == (State.SUPERSEDED, "PASS", "FAIL")
    assert "engine_disagrees" in {reason["code"] for reason in row.recheck["reasons"]}
    assert (await actions(world, second))[-2:] == ["recheck_failed", "supersede"]
    assert counted(world, "FAIL") == 1
    assert await world.steps.alias() == 1


async def test_an_inconclusive_version_goes_on_where_a_policy_says_so_and_the_audit_names_it(
    world: GateWorld, tmp_path: Path
) -> None:
    repository = world.steps.repository
    policy: dict[str, Any] = {"on_inconclusive": "promote"}
    await repository.policies.put(PolicyScope("acme", "support"), policy, actor="root")
    inert = random_adapter(tiny_base(), tmp_path / "inert", seed=3, size=1e-7)
    version = await world.push(inert)

    assert await world.drive(version, until=frozenset({State.LIVE, State.FAILED})) == State.LIVE

    row = await world.steps.row(version)
    assert (row.verdict, row.override_by) == ("INCONCLUSIVE", "controller")
    rows = await repository.audit.latest(subject=version)
    override = next(item for item in rows if item.action == "override")
    assert override.reason == "on_inconclusive: promote (policy of adapter number 1)"
    assert override.evidence is not None
    assert override.evidence["policy"] == {"scope": "adapter", "number": 1}
