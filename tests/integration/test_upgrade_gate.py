"""`upgrade: gate`: an engine of a new kind is measured by the real gate before tenants reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.fixtures.base_model import tiny_base
from serving.contract import EngineReport, VersionState
from serving.controller.gate_wait import GateWait, find_gate_waits
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.policies import PolicyScope
from serving.controller.steps import candidate
from tests.builders.gate_world import FINAL, GateWorld, another_engine, gate_world
from tests.builders.random_adapters import random_adapter
from tests.fakes.engine import FakeEngine


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(candidate, "_PAUSE_SECONDS", 0.05)
    # The steps' clock runs ahead of the engines': nobody shall seem silent for that.
    chosen: dict[str, Any] = {"upgrade": "gate", "engine_timeout_seconds": 1e6}
    async with gate_world(tmp_path / "data", **chosen) as made:
        await until(lambda: made.engine.snapshot is not None)
        await turn_until_ready(made, made.engine, n_measured=0)
        await made.steps.turn("recheck")
        yield made


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition; there is no event for it
            await asyncio.sleep(0.02)


async def heard(world: GateWorld, engine: FakeEngine, version: str | None = None) -> EngineReport:
    """What the controller knows of the engine, once that is how it is now; `version` is proven."""
    async with asyncio.timeout(60):
        while True:
            known = await world.steps.repository.fleet.engines()
            reports = [one.report for one in known if one.report.engine_id == engine.engine_id]
            if reports and reports[0].is_ready == engine.report().is_ready:
                names = {v.name for v in reports[0].versions if v.state is VersionState.PROVEN}
                if version is None or version in names:
                    return reports[0]
            await asyncio.sleep(0.02)


async def turn_until_ready(world: GateWorld, engine: FakeEngine, *, n_measured: int) -> None:
    """The recheck lane alone; ends once the engine may answer tenants."""
    measured = 0
    async with asyncio.timeout(120):
        while not engine.report().is_ready:
            measured += await world.steps.turn("recheck")
            await asyncio.sleep(0.05)
    assert measured == n_measured
    await heard(world, engine)


async def push_live(world: GateWorld, folder: Path, *, seed: int) -> str:
    version = await world.push(random_adapter(tiny_base(), folder, seed=seed))
    await go_on(world, version, {State.LIVE})
    return version


async def go_on(world: GateWorld, version: str, wanted: set[State]) -> None:
    """All lanes."""
    async with asyncio.timeout(300):
        while (state := State((await world.steps.row(version)).state)) not in wanted:
            assert state not in FINAL, f"{version} is {state}"
            for lane in ("validate", "evaluate", "recheck", "stage"):
                await world.steps.turn(lane)
            world.steps.clock.advance(1)
            await asyncio.sleep(0.03)


async def wait_of(world: GateWorld, engine: FakeEngine) -> GateWait:
    engines = await world.steps.repository.fleet.engines()
    return (await find_gate_waits(world.steps.context, engines))[engine.engine_id]


async def verdicts(world: GateWorld, version: str) -> dict[str, Verdict]:
    found = await world.steps.repository.rechecks.verdicts(version)
    return {kind.engine_build: verdict for kind, verdict in found.items()}


async def test_without_a_live_version_a_new_build_waits_for_the_controllers_word_alone(
    world: GateWorld, tmp_path: Path
) -> None:
    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        await until(lambda: second.waits_for_gate)

        await turn_until_ready(world, second, n_measured=0)

    (row,) = await world.steps.repository.audit.latest(subject="fake engine 2")
    assert row.action == "clear_engine_kind"
    assert row.reason == "no live version has been measured anywhere"


async def test_a_new_build_is_measured_on_itself_while_the_old_one_serves_and_then_is_ready(
    world: GateWorld, tmp_path: Path
) -> None:
    version = await push_live(world, tmp_path / "one", seed=1)
    n_asked = len(world.engine.asked)

    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        await heard(world, second, version)
        assert second.waits_for_gate
        wait = await wait_of(world, second)
        assert (wait.n_live, wait.n_unmeasured, wait.not_measurable) == (1, 1, None)

        await turn_until_ready(world, second, n_measured=1)

        assert version in second.asked
        assert len(world.engine.asked) == n_asked, "the gate asked the new engine alone"
        assert set(await verdicts(world, version)) == {world.engine.build, second.build}
        assert world.engine.report().is_ready
        assert not await world.steps.turn("recheck")


async def test_a_build_that_answers_otherwise_stays_out_and_says_which_version_says_so(
    world: GateWorld, tmp_path: Path
) -> None:
    version = await push_live(world, tmp_path / "one", seed=1)

    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        second.faults.answers_with_base = True
        await heard(world, second, version)
        assert await world.steps.turn("recheck")
        for _ in range(3):
            assert not await world.steps.turn("recheck"), "one measurement is enough"
            await asyncio.sleep(0.1)

        assert second.waits_for_gate
        assert not second.report().is_ready
        wait = await wait_of(world, second)
        assert [(one.version, one.verdict) for one in wait.blocked_by] == [(version, "FAIL")]
        assert f"1 keep it out; {version} FAIL: " in wait.summary
        row = await world.steps.row(version)
        assert row.state == State.LIVE, "the version itself is well where it serves"

    assert not await world.steps.turn("recheck"), "the old build's proofs are still there"
    assert world.engine.report().is_ready


async def test_what_fails_where_nobody_is_served_rolls_nobody_back(
    world: GateWorld, tmp_path: Path
) -> None:
    await push_live(world, tmp_path / "one", seed=1)
    version = await push_live(world, tmp_path / "two", seed=2)
    policies = world.steps.repository.policies
    await policies.put(PolicyScope("acme"), {"on_recheck_fail": "rollback"}, actor="root")

    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        second.faults.answers_with_base = True
        await heard(world, second, version)
        assert await world.steps.turn("recheck")

        assert (await verdicts(world, version))[second.build] is Verdict.FAIL
        assert await world.steps.alias() == 2, "it serves well where tenants are"
        assert (await world.steps.row(version)).state == State.LIVE
        assert second.waits_for_gate


async def test_where_no_engine_serves_what_they_wait_for_does_not_wait_for_pushes(
    world: GateWorld, tmp_path: Path
) -> None:
    version = await push_live(world, tmp_path / "one", seed=1)
    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        await heard(world, second, version)
        await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))
        assert not await world.steps.turn("recheck"), "pushes come first where tenants are served"
        world.engine.build = second.build
        await heard(world, world.engine, version)

        assert await world.steps.turn("recheck")

        assert (await verdicts(world, version))[second.build] is Verdict.PASS


async def test_an_engine_of_another_base_is_never_measured_against_this_one(
    world: GateWorld, tmp_path: Path
) -> None:
    version = await push_live(world, tmp_path / "one", seed=1)

    async with another_engine(world, "engine-1", base_revision="f" * 64) as second:
        await heard(world, second, version)

        assert not await world.steps.turn("recheck")

        assert second.waits_for_gate
        assert "the engine serves base ffffffffffff" in (await wait_of(world, second)).summary


async def test_what_is_pushed_while_two_kinds_serve_passes_on_both_before_it_is_live(
    world: GateWorld, tmp_path: Path
) -> None:
    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        await turn_until_ready(world, second, n_measured=0)
        version = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))
        assert await world.drive(version, until=frozenset({State.STAGING})) == State.STAGING
        async with asyncio.timeout(60):
            while (row := await world.steps.row(version)).error is None or (
                row.error["code"] != "waiting_for_gate"
            ):
                assert row.state == State.STAGING, "engines have proven it, the gate has not"
                world.steps.clock.advance(1)
                await world.steps.turn("stage")
                await asyncio.sleep(0.03)

        await go_on(world, version, {State.LIVE})

        assert await verdicts(world, version) == {
            "fake engine 1": Verdict.PASS,
            "fake engine 2": Verdict.PASS,
        }


async def test_what_fails_on_the_second_kind_does_not_go_live_on_either(
    world: GateWorld, tmp_path: Path
) -> None:
    async with another_engine(world, "engine-1", build="fake engine 2") as second:
        await turn_until_ready(world, second, n_measured=0)
        version = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))
        await world.drive(version, until=frozenset({State.STAGING}))
        (measured_on,) = await verdicts(world, version)
        other = second if measured_on == world.engine.build else world.engine
        other.faults.answers_with_base = True

        await go_on(world, version, {State.PASSED})

        row = await world.steps.row(version)
        assert row.error is not None
        assert (row.error["code"], row.error["detail"]) == (
            "gate_not_passed", f"no PASS on {other.build}",
        )  # fmt: skip
        assert await world.steps.alias() is None


async def test_switched_on_with_engines_that_serve_nobody_is_shut_out(tmp_path: Path) -> None:
    async with gate_world(tmp_path / "data") as world:
        await until(lambda: world.engine.report().is_ready and world.engine.snapshot)
        await world.engine.converge()
        settings: dict[str, Any] = {"upgrade": "gate"}
        world.steps.change_settings(**settings)

        await world.steps.turn("recheck")

        cleared = (await world.steps.snapshot()).cleared
        assert cleared == [world.engine.kind]
        assert world.engine.report().is_ready
        world.steps.change_settings(upgrade="probe")
        await world.steps.turn("recheck")
        assert (await world.steps.snapshot()).cleared is None
