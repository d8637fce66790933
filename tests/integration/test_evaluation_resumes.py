"""A killed evaluation goes on with the first stage that was not finished, and ends the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.results import ResultStore
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import random_adapter
from tests.builders.steps_world import LEASE_SECONDS

KEPT = ["reference", "candidate", "verify"]
"""Stages of an evaluation without gold and divergences whose results are kept, in order."""
_OF_THE_RUN = ("started_at", "seconds_by_stage", "reused_stages")


class Killed(BaseException):
    """kill -9, as far as the step is concerned."""


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tiny_base(), tmp_path_factory.mktemp("adapter") / "a", seed=5)


async def evaluate(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, *, kill_after: int | None
) -> dict[str, Any]:
    """The report of an evaluation that is killed once after so many kept stages."""
    n_kept = 0
    keep = ResultStore.keep

    async def keep_and_die(store: ResultStore, key: str, result: Any) -> None:
        nonlocal n_kept
        await keep(store, key, result)
        n_kept += 1
        if n_kept == kill_after:
            raise Killed

    async with gate_world(folder) as world:
        with monkeypatch.context() as patch:
            patch.setattr(ResultStore, "keep", keep_and_die)
            version = await world.push(adapter)
            try:
                await world.drive(version)
            except Killed:
                world.steps.restart()
                world.steps.clock.advance(LEASE_SECONDS + 1)
            assert await world.drive(version) == State.LIVE
        return await world.report(version)


def numbers_of(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in _OF_THE_RUN}


@pytest.mark.parametrize("kill_after", [1, 2, 3])
async def test_finished_stages_are_not_repeated_and_the_verdict_is_the_same(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, kill_after: int
) -> None:
    whole = await evaluate(tmp_path / "whole", adapter, monkeypatch, kill_after=None)

    killed = await evaluate(tmp_path / "killed", adapter, monkeypatch, kill_after=kill_after)

    assert whole["reused_stages"] == []
    assert killed["reused_stages"] == KEPT[:kill_after]
    ours, theirs = numbers_of(killed), numbers_of(whole)
    assert ours["verdict"] == theirs["verdict"] == "PASS"
    assert ours["numeric"] == pytest.approx(theirs["numeric"], abs=1e-6)
    assert ours["reasons"] == theirs["reasons"]


async def test_the_same_adapter_under_another_name_is_not_examined_alone_again(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path) as world:
        await world.drive(await world.push(adapter))
        second = await world.push(adapter, adapter="billing")

        assert await world.drive(second) == State.LIVE

        assert (await world.report(second))["reused_stages"] == ["reference"]


async def test_a_new_attempt_asks_the_engine_again(tmp_path: Path, adapter: Path) -> None:
    async with gate_world(tmp_path) as world:
        version = await world.push(adapter, mode="manual")
        await world.drive(version, until=frozenset({State.PASSED}))
        await world.steps.repository.versions.reevaluate(version, actor="ann", reason="again")

        await world.drive(version, until=frozenset({State.PASSED}))

        assert (await world.report(version))["reused_stages"] == ["reference"]


async def test_what_no_other_evaluation_can_use_is_forgotten_at_its_end(
    tmp_path: Path, adapter: Path
) -> None:
    async with gate_world(tmp_path) as world:
        await world.drive(await world.push(adapter))

        assert len(await kept_results(world)) == 1


async def kept_results(world: GateWorld) -> list[Path]:
    folder = world.steps.context.settings.data_dir
    return [path for path in folder.rglob("results/*/*") if path.is_file()]
