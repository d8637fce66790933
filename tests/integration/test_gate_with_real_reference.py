"""The gate with the real standalone process (torch and PEFT in a child) beside the fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.parity.reference_client import ReferenceClient
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import edit_tensors, random_adapter

pytestmark = pytest.mark.slow


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GateWorld]:
    reference = ReferenceClient(threads=1)
    async with gate_world(tmp_path / "data", reference=reference) as made:
        yield made
    await reference.close()


async def test_good_adapters_go_live_and_bad_ones_are_named(
    world: GateWorld, tmp_path: Path
) -> None:
    good = await world.push(random_adapter(tiny_base(), tmp_path / "good", seed=1))
    assert await world.drive(good) == State.LIVE
    report = await world.report(good)
    assert report["numeric"]["token_agreement"] == 1.0
    assert report["controls"]["negative"]["totals"]["token_agreement"] == 1.0
    assert report["base"]["n_parameters"] > 0

    huge = edit_tensors(random_adapter(tiny_base(), tmp_path / "huge", seed=2), scale=1e18)
    bad = await world.push(huge)
    assert await world.drive(bad) == State.FAILED
    assert await world.reasons(bad) == ["not_finite"]
    assert bad not in world.engine.seen

    world.engine.faults.answers_with_base = True
    unserved = await world.push(random_adapter(tiny_base(), tmp_path / "third", seed=3))
    assert await world.drive(unserved) == State.FAILED
    assert "engine_disagrees" in await world.reasons(unserved)
    assert await world.steps.alias() == 1
