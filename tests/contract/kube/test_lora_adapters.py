"""A LoraAdapter is registered, gated and served, and its status says all of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.source import AdapterSource, Fetched
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.kube.cluster import LORA_ADAPTERS
from serving.kube.lora_status import condition_of
from tests.builders.kube_worlds import KubeWorld
from tests.builders.lora_world import LoraWorld, lora_world
from tests.builders.registry import claim


@pytest.fixture
async def world(kube: KubeWorld, tmp_path: Path) -> AsyncIterator[LoraWorld]:
    async with lora_world(kube, tmp_path) as made:
        yield made


async def test_an_object_is_registered_gated_and_live_with_digest_and_verdict(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support")
    row = await world.until_version("support", 1)
    evaluating = await world.until_reason("support", "Accepted", "Registered")

    await world.make_live(row.id)
    live = await world.until_state("support", "live")

    assert evaluating["digest"] == row.digest
    assert row.created_by == f"kubernetes:{world.kube.namespace}/support"
    assert live["observedGeneration"] == 1
    assert (live["version"], live["live"], live["verdict"]) == (1, 1, "PASS")
    assert live["report"] == "/v1/tenants/acme/adapters/support/versions/1/report"
    assert [(c["type"], c["status"]) for c in live["conditions"]] == [
        ("Accepted", "True"), ("Evaluated", "True"), ("Live", "True"),
    ]  # fmt: skip
    assert "failure" not in live


async def test_what_happened_is_told_as_events(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    row = await world.until_version("support", 1)
    await world.make_live(row.id)
    await world.until_state("support", "live")

    told = await world.until_event("support", "Normal", "Live")

    assert told[0] == ("Normal", "Registered")
    assert all(kind == "Normal" for kind, _ in told)


async def test_a_changed_source_makes_a_new_version_and_the_same_one_does_not(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)

    await world.source("support", "two")
    second = await world.until_version("support", 2)
    await world.make_live(second.id)
    status = await world.until(
        "support", lambda s: s.get("state") == "live" and s.get("version") == 2
    )
    await world.change("support", deletionPolicy="Retire")
    await world.until("support", lambda s: s.get("observedGeneration") == 2)
    await world.until_reason("support", "Accepted", "Registered")

    rows = await world.repository.versions.all(tenant_id="acme")
    assert status["live"] == 2
    assert [(row.number, row.state) for row in rows] == [(2, "live"), (1, "superseded")]


async def test_a_source_that_goes_back_makes_the_older_version_live_again(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.source("support", "two")
    await world.make_live((await world.until_version("support", 2)).id)
    await world.until_state("support", "live")

    await world.source("support", "one")
    status = await world.until(
        "support", lambda s: s.get("state") == "live" and s.get("version") == 1
    )

    assert status["live"] == 1
    assert (await world.until_row("acme/support@2", State.SUPERSEDED)).number == 2


async def test_a_version_on_its_way_does_not_go_live_once_the_source_went_back(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.source("support", "two")
    await world.until_version("support", 2)

    await world.source("support", "one")
    await world.until_version("support", 1)
    await world.judge("acme/support@2", Verdict.PASS)

    assert (await world.repository.versions.find("acme/support@2")).state == "passed"
    assert (await world.status("support"))["live"] == 1


async def test_a_rollback_by_hand_stands_until_the_object_changes(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.source("support", "two")
    await world.make_live((await world.until_version("support", 2)).id)
    await world.until_state("support", "live")

    await world.repository.versions.roll_back("acme", "support", actor="ann", rollback_seconds=60)
    status = await world.until_state("support", "superseded")
    await world.change("support", deletionPolicy="Retire")
    await world.until("support", lambda s: s.get("observedGeneration") == 2)
    status = await world.until_reason("support", "Accepted", "Registered")

    assert (status["live"], status["version"]) == (1, 2)
    assert "acme/support@1 answers" in condition_of(status, "Live")["message"]


async def test_a_manual_object_waits_and_goes_on_when_it_becomes_automatic(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support", promote="manual")
    row = await world.until_version("support", 1)
    await world.judge(row.id, Verdict.PASS)
    waiting = await world.until_reason("support", "Live", "AwaitingPromotion")

    await world.change("support", promote="auto")

    await world.until_row(row.id, State.STAGING)
    assert condition_of(waiting, "Evaluated")["status"] == "True"


@pytest.mark.parametrize(
    ("verdict", "state", "reason"),
    [
        (Verdict.FAIL, "failed", "GateFailed"),
        (Verdict.INCONCLUSIVE, "inconclusive", "Inconclusive"),
    ],
)
async def test_a_verdict_against_it_is_in_its_status(
    world: LoraWorld, verdict: Verdict, state: str, reason: str
) -> None:
    await world.start()
    await world.add("support")
    row = await world.until_version("support", 1)
    token = await claim(world.repository, row, State.VALIDATING)
    await world.repository.work.apply(row.id, token, Move(event=Event.ACCEPT))
    token = await claim(world.repository, row, State.EVALUATING)

    await world.repository.work.conclude(
        row.id,
        token,
        verdict=verdict,
        report={"verdict": verdict.value},
        evidence={"reasons": [{"code": "task", "text": "7 of 40 answers are worse"}]},
    )

    status = await world.until_state("support", state)
    assert status["failure"]["reason"] == reason
    assert "7 of 40 answers are worse" in status["failure"]["message"]
    assert condition_of(status, "Evaluated")["status"] == "False"
    assert condition_of(status, "Live")["status"] == "False"


async def test_findings_that_refuse_it_are_in_its_status_with_their_fix(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    row = await world.until_version("support", 1)
    token = await claim(world.repository, row, State.VALIDATING)
    finding = {
        "code": "dora_unsupported", "severity": "blocking", "where": "use_dora",
        "meaning": "DoRA is not applied.", "fix": "Train with use_dora=False.",
    }  # fmt: skip
    await world.repository.work.apply(
        row.id, token, Move(event=Event.REJECT), findings=[finding], rank=8
    )

    status = await world.until_state("support", "rejected")

    assert status["failure"]["reason"] == "Rejected"
    assert "dora_unsupported (use_dora)" in status["failure"]["message"]
    assert "Train with use_dora=False." in status["failure"]["message"]


async def test_an_engine_that_cannot_load_it_is_named(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    row = await world.until_version("support", 1)
    await world.judge(row.id, Verdict.PASS)
    token = await claim(world.repository, row, State.STAGING)
    error = {
        "step": "stage", "code": "engine_cannot_prove", "waiting_for": [], "proven_on": [],
        "failed": [{"engine": "engine-1", "reason": "probe_failed", "detail": "other tokens"}],
    }  # fmt: skip
    await world.repository.work.apply(row.id, token, error=error)

    status = await world.until_reason("support", "Live", "EngineCannotLoad")

    assert status["failure"]["message"] == (
        "engine engine-1 cannot load it: probe_failed (other tokens)"
    )


async def test_a_tenant_that_appears_later_is_found(world: LoraWorld) -> None:
    await world.start()
    await world.add("support", tenant="globex")
    refused = await world.until_reason("support", "Accepted", "TenantNotFound")

    await world.repository.tenants.create("globex", display_name="Globex", actor="admin")
    status = await world.until_reason("support", "Accepted", "Registered")

    assert (refused["state"], refused["failure"]["reason"]) == ("refused", "TenantNotFound")
    assert (await world.repository.versions.find("globex/support@1")).digest == status["digest"]


async def test_a_source_that_appears_later_is_found(world: LoraWorld) -> None:
    await world.start()
    uri = (world.sources / "support").as_uri()
    await world.add("support", uri)
    refused = await world.until_reason("support", "Accepted", "SourceNotFound")

    await world.source("support")

    await world.until_reason("support", "Accepted", "Registered")
    assert "adapter_config.json" in refused["failure"]["message"]
    assert ("Warning", "SourceNotFound") in await world.events("support")


async def test_a_registered_version_stays_accepted_when_its_source_goes_away(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")

    await asyncio.to_thread(shutil.rmtree, world.sources / "support")
    await world.until_event("support", "Warning", "SourceNotFound")

    status = await world.status("support")
    assert condition_of(status, "Accepted")["status"] == "True"
    assert status["live"] == 1


async def test_a_broken_watch_misses_nothing(world: LoraWorld) -> None:
    await world.start()
    await world.add("before")
    await world.until_reason("before", "Accepted", "Registered")

    world.kube.line.cut()
    await world.add("meanwhile")
    world.kube.line.mend()

    await world.until_reason("meanwhile", "Accepted", "Registered")


async def test_objects_that_cannot_be_served_hold_up_no_other(world: LoraWorld) -> None:
    await world.start()
    for number in range(6):
        await world.add(f"broken-{number}", f"s3://no-such-bucket-{number}/x")
        await world.change(
            f"broken-{number}",
            source={"uri": f"s3://no-such-bucket-{number}/x", "secretRef": {"name": "absent"}},
        )
    await world.add("good")

    await world.until_reason("good", "Accepted", "Registered")
    for number in range(6):
        await world.until_reason(f"broken-{number}", "Accepted", "SecretNotFound")


async def test_sources_that_are_slow_hold_up_no_status_and_no_deletion(
    world: LoraWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, slow = AdapterSource.fetch, asyncio.Event()

    async def fetch_slowly(source: AdapterSource, into: Path, **limits: int) -> Fetched:
        if "slow" in str(source.uri):
            await slow.wait()
        return await fetch(source, into, **limits)

    await world.start()
    await world.add("gone", deletionPolicy="Retire")
    await world.until_reason("gone", "Accepted", "Registered")
    monkeypatch.setattr(AdapterSource, "fetch", fetch_slowly)
    for number in range(6):
        await world.add(f"slow-{number}")
        await world.until_reason(f"slow-{number}", "Accepted", "Reading")

    await world.remove("gone")
    await world.until_row("acme/gone@1", State.RETIRED)
    await world.add("nobodys", tenant="globex")
    await world.until_reason("nobodys", "Accepted", "TenantNotFound")

    slow.set()
    for number in range(6):
        await world.until_reason(f"slow-{number}", "Accepted", "Registered")


async def test_a_fetch_ends_when_the_object_wants_another_source(
    world: LoraWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, ended = AdapterSource.fetch, asyncio.Event()

    async def never_end(source: AdapterSource, into: Path, **limits: int) -> Fetched:
        if "other" in str(source.uri):
            return await fetch(source, into, **limits)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    monkeypatch.setattr(AdapterSource, "fetch", never_end)
    await world.start()
    await world.add("support")
    await world.until_reason("support", "Accepted", "Reading")

    await world.change("support", source={"uri": await world.source("other")})
    await world.until_reason("support", "Accepted", "Registered")

    assert ended.is_set()


async def test_a_status_that_somebody_else_wrote_is_put_right(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    await world.until_reason("support", "Accepted", "Registered")

    for _ in range(5):
        await world.cluster.patch_status(LORA_ADAPTERS, "support", {"state": "live", "live": 7})
    status = await world.until(
        "support", lambda s: s.get("state") == "validating" and "live" not in s
    )

    assert status["version"] == 1


async def test_a_new_leader_writes_nothing_when_nothing_is_new(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")
    await world.stop()
    before = await world.cluster.get(LORA_ADAPTERS, "support")

    await world.start()
    # Another object that is served shows that the new leader has looked at everything.
    await world.add("sales")
    await world.until_reason("sales", "Accepted", "Registered")

    after = await world.cluster.get(LORA_ADAPTERS, "support")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert len(await world.repository.versions.all(tenant_id="acme", adapter="support")) == 1
