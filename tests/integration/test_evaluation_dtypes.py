"""Both sides of the gate compute in one number type, or nothing is compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.fixtures.base_model import tiny_base
from serving.contract import FleetSnapshot
from serving.controller.lifecycle import State
from tests.builders.controller import a_report
from tests.builders.gate_world import GateWorld, another_engine, gate_world
from tests.builders.random_adapters import random_adapter
from tests.builders.steps_world import DirectLink


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tiny_base(), tmp_path_factory.mktemp("adapter") / "a", seed=1)


async def test_the_standalone_side_computes_in_the_number_type_of_the_engines(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path / "auto", dtype="auto") as world:
        world.engine.dtype = "bfloat16"
        await reported(world, dtype="bfloat16")
        version = await world.push(adapter)
        await world.drive(version)

        assert (await world.report(version))["base"]["dtype"] == "bfloat16"


async def test_two_number_types_are_no_comparison(tmp_path: Path, adapter: Path) -> None:
    async with gate_world(tmp_path / "two", dtype="float32") as world:
        world.engine.dtype = "bfloat16"
        version = await world.push(adapter)

        assert await world.drive(version) == State.INCONCLUSIVE

        assert await world.reasons(version) == ["dtypes_differ"]


async def reported(world: GateWorld, *, dtype: str) -> None:
    async with asyncio.timeout(60):
        while True:
            engines = await world.steps.repository.fleet.engines()
            if {one.report.dtype for one in engines} == {dtype}:
                return
            await asyncio.sleep(0.02)


async def proven_by(world: GateWorld, version: str, n_engines: int) -> None:
    async with asyncio.timeout(60):
        while True:
            known = await world.steps.repository.fleet.engines()
            names = [one.name for e in known for one in e.report.versions if one.state == "proven"]
            if names.count(version) == n_engines:
                return
            await asyncio.sleep(0.02)


async def test_an_engine_that_serves_nobody_does_not_choose_the_number_type(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path / "auto", dtype="auto") as world:
        starting = a_report("a-first", dtype="bfloat16", is_ready=False)
        await world.steps.repository.fleet.record_report(starting)

        version = await world.push(adapter)

        assert await world.drive(version) == State.LIVE, await world.reasons(version)
        assert (await world.report(version))["base"]["dtype"] == world.engine.dtype


class Behind(DirectLink):
    """Nothing new is heard from the controller until `may_go_on`."""

    def __init__(self, world: GateWorld) -> None:
        super().__init__(world.steps)
        self.may_go_on = asyncio.Event()

    async def pull(self, *, engine_id: str, after: int, wait: float) -> FleetSnapshot | None:
        if after >= 0 and not self.may_go_on.is_set():
            return None
        return await super().pull(engine_id=engine_id, after=after, wait=wait)


async def test_of_two_engines_the_one_of_the_set_number_type_is_measured(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path / "two", dtype="float32") as world:
        behind = Behind(world)
        world.engine.link = behind
        async with another_engine(world, "a-first", dtype="bfloat16"):
            version = await world.push(adapter)
            driving = asyncio.create_task(world.drive(version))
            await proven_by(world, version, 1)
            behind.may_go_on.set()

            assert await driving == State.LIVE, await world.reasons(version)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
async def test_a_re_check_computes_in_the_number_type_of_the_kind_that_it_measures(
    tmp_path: Path, adapter: Path, dtype: str
) -> None:
    chosen: dict[str, Any] = {"dtype": dtype, "engine_timeout_seconds": 1e6}
    async with gate_world(tmp_path / "auto", **chosen) as world:
        version = await world.push(adapter)
        assert await world.drive(version) == State.LIVE
        async with another_engine(world, "engine-9", dtype="bfloat16"):
            await proven_by(world, version, 2)

            assert await world.steps.turn("recheck")

        row = await world.steps.row(version)
        assert row.recheck is not None
        assert (row.recheck["verdict"], row.recheck["reason"]["changed"]) == ("PASS", ["dtype"])
        assert (await world.report(version))["base"]["dtype"] == "bfloat16"
