"""Versions through the whole life: real registry, store and verdict; engine and reference are fakes
that really compute, on a tiny model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bench.fixtures.base_model import tiny_base
from serving.contract import gate_key
from serving.controller.lifecycle import State
from serving.controller.registry.tables import SuiteRow
from serving.controller.steps import candidate
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import edit_tensors, random_adapter
from tests.builders.steps_world import SECRET


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(candidate, "_PAUSE_SECONDS", 0.05)
    async with gate_world(tmp_path / "data") as made:
        yield made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return random_adapter(tiny_base(), tmp_path / "adapter", seed=1)


async def ask(world: GateWorld, model: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {gate_key(SECRET)}"}
    async with httpx.AsyncClient(base_url=world.engine.url, headers=headers) as client:
        body = {"model": model, "prompt": [1, 2, 3], "max_tokens": 2}
        return await client.post("/v1/completions", json=body)


async def test_a_good_adapter_ends_live_with_report_and_probe(
    world: GateWorld, adapter: Path
) -> None:
    version = await world.push(adapter)

    assert await world.drive(version) == State.LIVE

    report = await world.report(version)
    assert report["verdict"] == "PASS"
    assert report["numeric"]["token_agreement"] == 1.0
    assert report["engine"]["id"] == "engine-0"
    assert set(report["seconds_by_stage"]) == {
        "fetch", "reference", "load", "candidate", "noise", "verify", "score", "total",
    }  # fmt: skip
    row = await world.steps.row(version)
    assert row.probe is not None
    assert row.probe["cases"]
    assert await world.steps.alias() == 1
    assert (await ask(world, "acme/support@1")).json()["model"] == "acme/support@1"


async def test_candidates_share_batches_with_the_base_and_live_adapters(
    world: GateWorld, adapter: Path, tmp_path: Path
) -> None:
    first = await world.push(adapter)
    await world.drive(first)
    world.engine.asked.clear()
    second = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))

    assert await world.drive(second) == State.LIVE

    assert {"base", first, second} <= set(world.engine.asked)
    assert (await world.steps.row(first)).state == State.SUPERSEDED


async def test_with_manual_promotion_a_pass_waits_for_a_person(
    world: GateWorld, adapter: Path
) -> None:
    version = await world.push(adapter, mode="manual")

    assert await world.drive(version) == State.PASSED

    assert await world.steps.alias() is None
    assert (await world.steps.snapshot()).versions == []


async def test_an_adapter_with_huge_weights_never_appears_in_any_snapshot(
    world: GateWorld, adapter: Path
) -> None:
    edit_tensors(adapter, scale=1e18)
    version = await world.push(adapter)

    assert await world.drive(version) == State.FAILED

    assert await world.reasons(version) == ["not_finite"]
    assert version not in world.engine.seen
    assert world.engine.asked == []


async def test_an_engine_that_answers_with_the_base_model_is_found_out(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.answers_with_base = True
    version = await world.push(adapter)

    assert await world.drive(version) == State.FAILED

    assert "engine_disagrees" in await world.reasons(version)
    assert (await world.steps.snapshot()).versions == []


async def test_an_inert_adapter_is_inconclusive_never_pass(
    world: GateWorld, tmp_path: Path
) -> None:
    version = await world.push(random_adapter(tiny_base(), tmp_path / "inert", seed=3, size=1e-7))

    assert await world.drive(version) == State.INCONCLUSIVE

    assert await world.reasons(version) == ["inert_or_blind"]


async def test_an_engine_that_cannot_load_the_candidate_fails_it_with_its_reason(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.refuses["acme/support@1"] = "rank_above_slots"
    version = await world.push(adapter)

    assert await world.drive(version) == State.FAILED

    (reason,) = (await world.report(version))["reasons"]
    assert reason["code"] == "engine_refused_to_load"
    assert "rank_above_slots" in reason["text"]
    await asyncio.sleep(0.1)
    assert (await world.steps.snapshot()).versions == []


async def test_bytes_that_the_engine_did_not_get_say_nothing_about_the_adapter(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.refuses["acme/support@1"] = "digest_mismatch"
    version = await world.push(adapter)

    assert await world.drive(version) == State.INCONCLUSIVE


async def test_an_engine_that_refuses_every_request_is_inconclusive(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.statuses["acme/support@1"] = 500
    version = await world.push(adapter)

    assert await world.drive(version) == State.INCONCLUSIVE

    assert await world.reasons(version) == ["engine_refused"]


async def test_answers_that_are_not_finite_on_the_engine_fail_the_adapter(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.logprob = -9999.0
    version = await world.push(adapter)

    assert await world.drive(version) == State.FAILED

    assert await world.reasons(version) == ["engine_answer_not_finite"]


async def test_a_base_model_that_cannot_be_measured_puts_the_evaluation_off(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.statuses["base"] = 500
    version = await world.push(adapter)
    await world.steps.turn("validate")

    await world.steps.turn("evaluate")

    row = await world.steps.row(version)
    assert row.state == State.EVALUATING
    assert row.error is not None
    assert row.error["code"] == "engine_refused"
    world.engine.faults.statuses.clear()
    assert await world.drive(version) == State.LIVE


async def test_a_suite_that_cannot_be_read_is_inconclusive_and_says_where(
    world: GateWorld, adapter: Path
) -> None:
    bad = SuiteRow(
        tenant_id="acme", name="bad", digest="x", n_cases=1, content="{", contamination=None
    )
    await world.steps.repository.tenants.put_suite(bad, actor="ann")
    version = await world.steps.upload(adapter, suite="acme/bad@1")

    assert await world.drive(version) == State.INCONCLUSIVE

    assert await world.reasons(version) == ["suite_invalid"]


async def test_without_a_suite_the_built_in_probe_is_used_and_says_what_it_proves(
    world: GateWorld, adapter: Path
) -> None:
    # Refused by the standalone side, so that the many cases cost no generation here.
    version = await world.steps.upload(edit_tensors(adapter, scale=1e18))

    assert await world.drive(version) == State.FAILED

    report = await world.report(version)
    assert report["suite"]["is_builtin"]
    assert "numeric parity only" in report["proves"]


async def test_a_version_retired_during_its_evaluation_gets_no_verdict(
    world: GateWorld, adapter: Path
) -> None:
    retired = False

    async def retire_once(_model: str) -> None:
        nonlocal retired
        if not retired:
            retired = True
            await world.steps.repository.versions.retire("acme/support@1", actor="ann")

    world.engine.faults.before_answer = retire_once
    version = await world.push(adapter)

    assert await world.drive(version) == State.RETIRED

    row = await world.steps.row(version)
    assert (row.verdict, await world.steps.repository.versions.report(version)) == (None, None)


async def test_bytes_that_the_store_lost_are_told_and_decide_nothing(
    world: GateWorld, adapter: Path
) -> None:
    version = await world.push(adapter)
    await world.steps.turn("validate")
    digest = (await world.steps.row(version)).digest
    await world.steps.context.store.delete(digest)
    for copy in (world.steps.context.settings.data_dir / "work").rglob("*.safetensors"):
        copy.parent.chmod(0o755)
        copy.unlink()

    await world.steps.turn("evaluate")

    row = await world.steps.row(version)
    assert row.state == State.EVALUATING
    assert row.error is not None
    assert (row.error["code"], row.error["terminal"]) == ("artifact_not_found", True)


async def test_a_re_evaluation_makes_the_engine_forget_its_failure(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.refuses["acme/support@1"] = "disk_full"
    version = await world.push(adapter)
    await world.drive(version)
    world.engine.faults.refuses.clear()

    await world.steps.repository.versions.reevaluate(version, actor="ann")

    assert await world.drive(version) == State.LIVE


async def test_without_a_ready_engine_there_is_no_verdict_until_one_comes(
    world: GateWorld, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_MAX_WAIT_SECONDS", 0.1)
    world.engine.is_ready = False
    version = await world.push(adapter)
    await world.steps.turn("validate")
    await world.steps.turn("evaluate")
    row = await world.steps.row(version)
    assert row.state == State.EVALUATING
    assert row.error is not None
    assert row.error["code"] == "waiting_for_engine"

    world.engine.is_ready = True

    assert await world.drive(version) == State.LIVE


async def test_an_engine_that_goes_away_in_the_middle_changes_no_verdict(
    world: GateWorld, adapter: Path
) -> None:
    answered = 0

    async def go_away_once(_model: str) -> None:
        nonlocal answered
        answered += 1
        if answered == 5:
            world.engine.faults.is_down = True
            asyncio.get_running_loop().call_later(0.3, _come_back)

    def _come_back() -> None:
        world.engine.faults.is_down = False

    world.engine.faults.before_answer = go_away_once
    version = await world.push(adapter)

    assert await world.drive(version) == State.LIVE

    assert answered > 5


async def test_an_engine_that_reports_well_but_never_answers_gets_no_verdict(
    world: GateWorld, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.url = "http://127.0.0.1:1"
    version = await world.push(adapter)
    await world.steps.turn("validate")

    await world.steps.turn("evaluate")

    row = await world.steps.row(version)
    assert row.state == State.EVALUATING
    assert row.error is not None
    assert row.error["code"] == "engine_unreachable"


async def test_an_engine_without_a_result_in_gate_time_is_inconclusive(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    async with gate_world(tmp_path / "data", gate_timeout_seconds=0.1) as world:
        world.link.is_cut = True
        await world.steps.engine_says("stuck")
        version = await world.push(adapter)

        assert await world.drive(version) == State.INCONCLUSIVE
        assert await world.reasons(version) == ["gate_timeout"]


async def test_the_noise_floor_is_measured_once_for_one_build_base_and_suite(
    world: GateWorld, adapter: Path, tmp_path: Path
) -> None:
    await world.drive(await world.push(adapter))
    assert world.reference.n_base_readings == 1
    second = await world.push(random_adapter(tiny_base(), tmp_path / "two", seed=2))

    await world.drive(second)

    assert world.reference.n_base_readings == 1


async def test_an_overridden_version_goes_live_on_a_probe_of_finiteness_alone(
    world: GateWorld, tmp_path: Path
) -> None:
    inert = random_adapter(tiny_base(), tmp_path / "inert", seed=3, size=1e-7)
    version = await world.push(inert)
    await world.drive(version)

    await world.steps.repository.versions.promote(
        version, actor="ann", override_reason="a demo without effect"
    )

    assert await world.drive(version, until=frozenset({State.LIVE})) == State.LIVE
    row = await world.steps.row(version)
    assert (row.override_by, row.override_reason) == ("ann", "a demo without effect")
    assert row.probe is not None
    assert row.probe["cases"] == []


async def test_verdicts_and_stages_are_counted(world: GateWorld, adapter: Path) -> None:
    await world.drive(await world.push(adapter))

    registry = world.steps.metrics
    assert registry.get_sample_value("loraplane_gate_verdicts_total", {"verdict": "PASS"}) == 1.0
    assert registry.get_sample_value("loraplane_gate_verdicts_total", {"verdict": "FAIL"}) == 0.0
    count = "loraplane_gate_seconds_count"
    assert registry.get_sample_value(count, {"stage": "verify"}) == 1.0
