"""A promotion over HTTP when engines have moved on from what the version was proven on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec

from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.staleness import Proof
from tests.builders.controller import Controller, a_report, form_of

VERSIONS = "/v1/tenants/acme/adapters/support/versions"
NAME = "acme/support@1"


async def passed(controller: Controller, proof: Proof) -> Any:
    """A client that may promote, and its version that has passed with this proof."""
    card: Any = SimpleNamespace(revision="base-a")
    controller.app.state.context = replace(controller.context, card=card)
    client = await controller.tenant("acme", ["read", "push", "promote"])
    await client.post(VERSIONS, files=form_of())
    await controller.lead(NAME, Event.ACCEPT)
    work = controller.context.repository.work
    row = await work.claim_due([State.EVALUATING], lease_seconds=9, owner="test")
    assert row is not None
    assert await work.conclude(
        NAME, str(row.lock_token), verdict=Verdict.PASS, report={}, proof=proof
    )
    return client


async def engine_runs(controller: Controller, build: str) -> None:
    engine = await controller.engine_client()
    body = msgspec.json.encode(a_report(build=build))
    sent = await engine.post("/internal/v1/engines/engine-0/report", content=body)
    assert sent.status_code == 204


async def test_a_version_proven_on_what_runs_is_staged_at_once(controller: Controller) -> None:
    client = await passed(controller, Proof("vllm 1", "base-a", "float32"))
    await engine_runs(controller, "vllm 1")

    assert (await client.post(f"{VERSIONS}/1/promote")).json()["state"] == "staging"


async def test_a_version_proven_on_another_build_goes_through_the_gate_again_first(
    controller: Controller,
) -> None:
    client = await passed(controller, Proof("vllm 1", "base-a", "float32"))
    await engine_runs(controller, "vllm 2")

    moved = (await client.post(f"{VERSIONS}/1/promote")).json()

    assert (moved["state"], moved["promote"], moved["attempt"]) == ("evaluating", "auto", 1)
    events = (await client.get("/v1/events", params={"subject": NAME})).json()["events"]
    assert events[0]["action"] == "reevaluate"
    assert events[0]["evidence"]["stale"]["now"]["engine_build"] == "vllm 2"


async def test_without_a_ready_engine_nothing_is_known_to_have_changed(
    controller: Controller,
) -> None:
    client = await passed(controller, Proof("vllm 1", "base-a", "float32"))
    await engine_runs(controller, "vllm 2")
    controller.clock.advance(60)

    assert (await client.post(f"{VERSIONS}/1/promote")).json()["state"] == "staging"
