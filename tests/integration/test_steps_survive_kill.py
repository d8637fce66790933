"""Kill the controller after each effect of each step; a new one must come to the same end.

A kill is a `BaseException` raised right after the n-th effect on registry or store: nothing of the
step runs after it, its lease stays, and the next controller has to wait until that expires.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.steps import candidate
from serving.controller.steps import lease as lease_module
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import edit_tensors, random_adapter
from tests.builders.steps_world import LEASE_SECONDS


class Killed(BaseException):
    """kill -9, as far as the step is concerned."""


class Killer:
    """Raises after the n-th effect; counts how many there are."""

    def __init__(self, after: int | None) -> None:
        self.after, self.n_effects = after, 0

    def wrap(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(call)
        async def wrapped(*args: Any, **values: Any) -> Any:
            result = await call(*args, **values)
            self.n_effects += 1
            if self.n_effects == self.after:
                raise Killed
            return result

        return wrapped


def arm(world: GateWorld, monkeypatch: pytest.MonkeyPatch, after: int | None) -> Killer:
    killer = Killer(after)
    work, store = world.steps.repository.work, world.steps.context.store
    for name in ("claim_due", "apply", "conclude", "switch", "save_noise_floor"):
        monkeypatch.setattr(work, name, killer.wrap(getattr(work, name)))
    monkeypatch.setattr(store, "fetch", killer.wrap(store.fetch))
    return killer


async def drive_through_kills(world: GateWorld, version: str) -> State:
    while True:
        try:
            return await world.drive(version)
        except Killed:
            world.steps.restart()
            world.steps.clock.advance(LEASE_SECONDS + 1)


async def life(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, *, after: int | None
) -> tuple[dict[str, Any], int]:
    """One whole life with at most one kill: what is left in the world, and the effects counted."""
    async with gate_world(folder) as world:
        with monkeypatch.context() as patch:
            killer = arm(world, patch, after)
            version = await world.push(adapter)
            await drive_through_kills(world, version)
        row = await world.steps.row(version)
        moves = await world.steps.repository.audit.latest(subject=version)
        left = {
            "state": row.state,
            "verdict": row.verdict,
            "rank": row.rank,
            "lock": row.lock_token,
            "probe": row.probe and len(row.probe["cases"]),
            "alias": await world.steps.alias(),
            "held": [entry.name for entry in (await world.steps.snapshot()).versions],
            "seen": sorted(world.engine.seen),
            "moves": [(move.from_state, move.to_state) for move in reversed(moves)],
            "reasons": await world.reasons(version),
        }
        return left, killer.n_effects


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    # The keeper writes by the clock; its writes would make the count of effects a matter of luck.
    monkeypatch.setattr(lease_module, "PROGRESS_SECONDS", 1e6)


@pytest.mark.slow
async def test_a_kill_after_any_effect_of_a_good_life_changes_nothing_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(tiny_base(), tmp_path / "adapter", seed=1)
    undisturbed, n_effects = await life(tmp_path / "0", adapter, monkeypatch, after=None)
    assert undisturbed["state"] == State.LIVE

    for after in range(1, n_effects + 1):
        left, _ = await life(tmp_path / str(after), adapter, monkeypatch, after=after)

        assert left == undisturbed, f"killed after effect {after}"


@pytest.mark.slow
async def test_a_kill_never_shows_an_engine_what_the_reference_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = edit_tensors(random_adapter(tiny_base(), tmp_path / "huge", seed=1), scale=1e18)
    undisturbed, n_effects = await life(tmp_path / "0", adapter, monkeypatch, after=None)
    assert undisturbed["state"] == State.FAILED
    assert undisturbed["seen"] == []

    for after in range(1, n_effects + 1):
        left, _ = await life(tmp_path / str(after), adapter, monkeypatch, after=after)

        assert left == undisturbed, f"killed after effect {after}"
