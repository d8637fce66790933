"""The gate with judges: a live version's free-text answers against the next version's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.parity.judge_outcome import JudgeOutcome
from adapters.results import ResultStore
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.tables import SuiteRow
from serving.controller.steps import candidate
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import random_adapter
from tests.builders.steps_world import LEASE_SECONDS
from tests.fakes.judges import KEY, FakeJudges, better
from tests.fakes.served import served

N_CASES = 8
MODELS = ("one", "two", "three")


class Taste:
    """Likes the answers that it knows already."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def __call__(self, first: str, second: str) -> str:
        if (first in self.known) == (second in self.known):
            return better("tie")
        return better("A" if first in self.known else "B")


@pytest.fixture
def taste() -> Taste:
    return Taste()


@pytest.fixture
def judges(taste: Taste) -> FakeJudges:
    return FakeJudges(dict.fromkeys(MODELS, taste))


@pytest.fixture
async def world(
    tmp_path: Path, judges: FakeJudges, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    monkeypatch.setenv("KEY_OF_THE_JUDGES", KEY)
    async with served(judges.app) as url:
        listed = [
            {"name": name, "url": url, "model": name, "api_key_env": "KEY_OF_THE_JUDGES"}
            for name in MODELS
        ]
        path = tmp_path / "judges.json"
        path.write_text(json.dumps(listed))
        async with gate_world(tmp_path / "data", judges=path) as made:
            await prepare(made)
            yield made


async def prepare(world: GateWorld) -> None:
    """A suite without gold, and a policy that asks for judges."""
    repository = world.steps.repository
    lines = [{"id": f"c{n}", "prompt": f"Question {n}:", "max_tokens": 6} for n in range(N_CASES)]
    content = "\n".join(map(json.dumps, lines))
    suite = SuiteRow(
        tenant_id="acme", name="talk", digest="t", n_cases=N_CASES, content=content,
        contamination=None,
    )  # fmt: skip
    await repository.tenants.put_suite(suite, actor="ann")
    await repository.policies.put(PolicyScope("acme", None), {"use_judges": True}, actor="root")


async def push(world: GateWorld, folder: Path, seed: int) -> tuple[State, dict[str, Any]]:
    adapter = random_adapter(tiny_base(), folder / str(seed), seed=seed)
    version = await world.steps.upload(adapter, suite="acme/talk@1")
    try:
        state = await world.drive(version)
    except Killed:
        world.steps.restart()
        world.steps.clock.advance(LEASE_SECONDS + 1)
        state = await world.drive(version)
    return state, await world.report(version)


class Killed(BaseException):
    """kill -9, as far as the step is concerned."""


def kill_once_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = ResultStore.keep

    async def keep_and_die(store: ResultStore, key: str, result: Any) -> None:
        await keep(store, key, result)
        if isinstance(result, JudgeOutcome):
            raise Killed

    monkeypatch.setattr(ResultStore, "keep", keep_and_die)


async def test_a_version_whose_answers_judges_like_less_than_the_live_ones_fails(
    world: GateWorld,
    judges: FakeJudges,
    taste: Taste,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, report = await push(world, tmp_path, 1)
    # The first version answers as the standalone model does: there is nothing to ask.
    assert first == State.LIVE
    assert report["judge"]["total"]["n_equal"] == N_CASES
    assert judges.n_answered == {}

    taste.known = {case["answers"][0]["text"] for case in report["cases"]}
    kill_once_judged(monkeypatch)
    second, report = await push(world, tmp_path, 2)

    assert second == State.FAILED
    assert [reason["code"] for reason in report["reasons"]] == ["judges_prefer_before"]
    judge = report["judge"]
    assert judge["before_name"] == "acme/support@1"
    assert judge["total"]["n_before_preferred"] == judge["total"]["n_asked"] >= 6
    assert [item["consistency"] for item in judge["judges"]] == [1.0, 1.0, 1.0]
    # The controller was killed when it had heard the judges; nobody was asked again.
    assert report["reused_stages"][-1] == "judge"
    assert judges.n_answered == dict.fromkeys(MODELS, 2 * judge["total"]["n_asked"])
    assert report["seconds_by_stage"]["judge"] > 0
    assert KEY not in json.dumps(report)
    assert await world.steps.alias() == 1


async def test_a_policy_that_asks_for_judges_without_any_is_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    async with gate_world(tmp_path / "data") as world:
        await prepare(world)

        state, report = await push(world, tmp_path, 1)

    assert state == State.INCONCLUSIVE
    assert [reason["code"] for reason in report["reasons"]] == ["judges_missing"]
