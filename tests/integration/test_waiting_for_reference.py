"""While there is nobody to ask, a version says so and why, and goes on when there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.steps import candidate
from tests.builders.gate_world import gate_world
from tests.builders.random_adapters import random_adapter

WHY = "no node takes pod reference-x: 0/3 nodes are available: insufficient nvidia.com/gpu"


async def test_a_version_that_waits_for_the_reference_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    async with gate_world(tmp_path / "data") as world:
        world.reference.waits = WHY
        version = await world.push(random_adapter(tiny_base(), tmp_path / "adapter", seed=1))
        driving = asyncio.create_task(world.drive(version))

        async with asyncio.timeout(60):
            progress = None
            while (progress or {}).get("stage") != "waiting_for_reference":
                await asyncio.sleep(0.05)
                progress = (await world.steps.row(version)).progress
        assert progress["reasons"] == [{"code": "waiting_for_reference", "text": WHY}]
        assert (await world.steps.row(version)).state == State.EVALUATING

        world.reference.may_go_on.set()
        assert await driving == State.LIVE
