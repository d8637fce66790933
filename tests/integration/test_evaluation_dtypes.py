"""Both sides of the gate compute in one number type, or nothing is compared."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from tests.builders.gate_world import gate_world
from tests.builders.random_adapters import random_adapter


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tiny_base(), tmp_path_factory.mktemp("adapter") / "a", seed=1)


async def test_the_standalone_side_computes_in_the_number_type_of_the_engines(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path / "auto", dtype="auto") as world:
        world.engine.dtype = "bfloat16"
        await asyncio.sleep(0.1)

        version = await world.push(adapter)
        await world.drive(version)

        assert (await world.report(version))["base"]["dtype"] == "bfloat16"


async def test_two_number_types_are_no_comparison(tmp_path: Path, adapter: Path) -> None:
    async with gate_world(tmp_path / "two", dtype="float32") as world:
        world.engine.dtype = "bfloat16"
        version = await world.push(adapter)

        assert await world.drive(version) == State.INCONCLUSIVE

        assert await world.reasons(version) == ["dtypes_differ"]
