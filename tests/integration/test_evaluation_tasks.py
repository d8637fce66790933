"""The gate with gold answers, a training set, and another standalone side; a fake that computes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.parity.contamination import ContaminationReport, ContaminationRules, Leak
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.tables import SuiteRow
from serving.controller.steps import candidate
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import random_adapter
from tests.fakes.deployment import KEY, FakeDeployment
from tests.fakes.served import served

SMALL = {"min_cases": 4, "min_cases_per_segment": 2}
N_CASES = 6


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    async with gate_world(tmp_path / "data", deployment_key=KEY) as made:
        yield made


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [random_adapter(tiny_base(), folder / str(seed), seed=seed) for seed in (1, 2)]


async def store_suite(world: GateWorld, *, gold: str, leaks: int | None = None) -> str:
    lines = [
        {
            "id": f"c{n}",
            "messages": [{"role": "user", "content": f"Question {n}"}],
            "max_tokens": 4,
            "segment": "even" if n % 2 == 0 else "odd",
            "expect": {"text": gold},
        }
        for n in range(N_CASES)
    ]
    contamination = None
    if leaks is not None:
        contamination = ContaminationReport(
            n_cases=N_CASES,
            n_documents=9,
            rules=ContaminationRules(max_fraction=1.0),
            leaks=tuple(Leak(f"c{n}", n + 1, 0.9) for n in range(leaks)),
            sweep=(),
        ).to_json()
    row = SuiteRow(
        tenant_id="acme",
        name="gold",
        digest=gold,
        n_cases=N_CASES,
        content="\n".join(map(json.dumps, lines)),
        contamination=contamination,
    )
    stored, _ = await world.steps.repository.tenants.put_suite(row, actor="ann")
    return stored.id


async def set_policy(world: GateWorld, **fields: Any) -> None:
    scope = PolicyScope("acme", None)
    await world.steps.repository.policies.put(scope, {**SMALL, **fields}, actor="ann")


async def push(world: GateWorld, folder: Path, suite: str) -> tuple[State, dict[str, Any]]:
    version = await world.steps.upload(folder, suite=suite)
    return await world.drive(version), await world.report(version)


async def test_a_second_version_is_held_against_the_live_one(
    world: GateWorld, adapters: list[Path]
) -> None:
    await set_policy(world)
    suite = await store_suite(world, gold="nobody says this")

    first, report = await push(world, adapters[0], suite)
    assert (first, report["task"]["live"]) == (State.LIVE, None)
    second, report = await push(world, adapters[1], suite)

    assert second == State.LIVE
    assert report["task"]["live_version"] == "acme/support@1"
    assert report["task"]["live"]["total"]["n"] == N_CASES
    assert report["task"]["serving"]["total"]["n_worse"] == 0
    assert {item["segment"] for item in report["segments"]} == {"even", "odd"}
    assert report["answer"] == {"n": 6, "n_exact": 6, "n_equivalent": 0, "n_different": 0}
    assert "rule out" in report["detectable"]["sentence"]
    assert report["cases"][0]["scores"]["live"]["is_pass"] is False


async def test_the_policy_that_judged_is_in_the_report_with_its_sources(
    world: GateWorld, adapters: list[Path]
) -> None:
    await set_policy(world, segment_thresholds={"even": 0.9})

    state, report = await push(world, adapters[0], await store_suite(world, gold="nobody"))

    assert state == State.FAILED
    assert [reason["code"] for reason in report["reasons"]] == ["below_threshold"]
    assert report["policy"]["min_cases"] == 4
    assert {"scope": "tenant", "number": 1} in report["policy_source"]


async def test_leaked_cases_are_left_out_and_listed(world: GateWorld, adapters: list[Path]) -> None:
    await set_policy(world, contamination={"max_fraction": 0.5})
    suite = await store_suite(world, gold="nobody says this", leaks=2)

    state, report = await push(world, adapters[0], suite)

    assert state == State.LIVE
    assert report["suite"]["n_cases"] == N_CASES - 2
    assert [item["id"] for item in report["excluded"]] == ["c0", "c1"]
    assert report["excluded"][0]["reason"] == "contaminated"
    assert report["contamination"]["n_leaked"] == 2


async def test_a_contaminated_suite_fails_before_any_engine_sees_the_version(
    world: GateWorld, adapters: list[Path]
) -> None:
    await set_policy(world, contamination={"max_fraction": 0.1})
    suite = await store_suite(world, gold="nobody says this", leaks=2)

    state, report = await push(world, adapters[0], suite)

    assert state == State.FAILED
    assert [reason["code"] for reason in report["reasons"]] == ["suite_contaminated"]
    assert "candidate" not in report["seconds_by_stage"]


async def test_an_existing_deployment_may_be_the_standalone_side(
    world: GateWorld, adapters: list[Path]
) -> None:
    deployment = FakeDeployment(parses_tool_calls=False)
    async with served(deployment.app) as url:
        await set_policy(
            world, runner="openai", deployment_url=url, deployment_model=deployment.name
        )
        state, report = await push(world, adapters[0], await store_suite(world, gold="nobody"))

    assert state == State.LIVE
    assert report["runner"] == "openai"
    # The fake deployment says other things than the tiny model; neither is right.
    assert report["answer"]["n_different"] == N_CASES
    assert report["numeric"]["token_agreement"] == 1.0
    assert report["vouched_by"] == "deployment"


async def test_a_runner_that_nobody_configured_is_inconclusive_and_says_what_to_set(
    world: GateWorld, adapters: list[Path]
) -> None:
    await set_policy(world, runner="openai")

    state, report = await push(world, adapters[0], await store_suite(world, gold="nobody"))

    assert state == State.INCONCLUSIVE
    assert report["reasons"][0]["code"] == "deployment_unset"
    assert "deployment_url" in report["reasons"][0]["text"]


async def test_a_merged_model_is_refused_at_once_where_the_reference_is_a_job(
    world: GateWorld, adapters: list[Path]
) -> None:
    world.steps.change_settings(merged_command="serve {model} {port} {name}")
    world.reference.shares_files = False
    await set_policy(world, runner="merged")

    state, report = await push(world, adapters[0], await store_suite(world, gold="nobody"))

    assert state == State.INCONCLUSIVE
    assert [item["code"] for item in report["reasons"]] == ["merged_needs_process"]
    assert "LORAPLANE_REFERENCE_RUNNER=process" in report["reasons"][0]["text"]


async def test_a_deployment_that_is_away_puts_the_evaluation_off(
    world: GateWorld, adapters: list[Path]
) -> None:
    await set_policy(
        world, runner="openai", deployment_url="http://127.0.0.1:1", deployment_model="m"
    )
    version = await world.steps.upload(adapters[0], suite=await store_suite(world, gold="x"))
    await world.steps.turn("validate")

    await world.steps.turn("evaluate")

    row = await world.steps.row(version)
    assert row.state == State.EVALUATING
    assert row.error is not None
    assert row.error["code"] == "runner_unreachable"
