"""Engines that wait for the gate over HTTP: what they wait for, who clears them, who is counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx

from serving.contract import EngineReport, decode_snapshot, encode
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.restored import LEAP
from serving.controller.staleness import Proof
from tests.builders.controller import Controller, a_report, form_of
from tests.builders.problems import assert_problem

OLD = Proof("vllm 1", "base-a", "float32")
VERSIONS = "/v1/tenants/acme/adapters/support/versions"
NAME = "acme/support@1"


async def gated(controller: Controller) -> httpx.AsyncClient:
    """An administrator; acme/support@1 is live with a proof on OLD, which alone is cleared."""
    card: Any = SimpleNamespace(revision="base-a")
    settings = replace(controller.context.settings, upgrade="gate")
    controller.app.state.context = replace(controller.context, card=card, settings=settings)
    tenant = await controller.tenant("acme", ["read", "push", "promote"])
    await tenant.post(VERSIONS, files=form_of(), data={"promote": "auto"})
    await controller.lead(NAME, Event.ACCEPT)
    work = controller.context.repository.work
    row = await work.claim_due([State.EVALUATING], lease_seconds=9, owner="test")
    assert row is not None
    passed: dict[str, Any] = {"verdict": Verdict.PASS, "report": {}, "proof": OLD}
    assert await work.conclude(NAME, str(row.lock_token), **passed)
    await controller.lead(NAME, Event.SWITCH)
    await controller.context.repository.clearances.switch("gate", {OLD: "it serves"})
    return await controller.client()


async def says(controller: Controller, report: EngineReport) -> None:
    engine = await controller.engine_client()
    path = f"/internal/v1/engines/{report.engine_id}/report"
    assert (await engine.post(path, content=encode(report))).status_code == 204


def waiting(engine_id: str = "engine-1", **changes: Any) -> EngineReport:
    given = {"build": "vllm 2", "is_ready": False, "waits_for_gate": True}
    return a_report(engine_id, **{**given, "base_revision": "base-a", **changes})


async def test_an_engine_says_which_versions_keep_it_out(controller: Controller) -> None:
    admin = await gated(controller)
    await says(controller, a_report("engine-0", build="vllm 1"))
    await says(controller, waiting())

    shown = (await admin.get("/v1/engines/engine-1")).json()
    listed = (await admin.get("/v1/engines")).json()["engines"]
    fleet = (await admin.get("/v1/fleet")).json()["engines"]
    metrics = (await admin.get("/metrics")).text

    assert shown["state"] == "waiting_for_gate"
    blocker = {"version": NAME, "verdict": None, "why": None}
    assert shown["gate"]["blocked_by"] == [blocker]
    assert (shown["gate"]["n_live"], shown["gate"]["n_unmeasured"]) == (1, 1)
    assert [(one["state"], one["gate"] is None) for one in listed] == [
        ("ready", True), ("waiting_for_gate", False),
    ]  # fmt: skip
    assert [one["waits_for"] for one in fleet] == [None, "0 of 1 live versions measured"]
    assert 'loraplane_engines{state="waiting_for_gate"} 1.0' in metrics
    assert 'loraplane_engines{state="stopping"} 0.0' in metrics


async def test_an_engine_on_its_way_out_is_stopping_and_not_starting(
    controller: Controller,
) -> None:
    admin = await gated(controller)
    await says(controller, a_report("engine-0", is_ready=False, stopping=True))

    assert (await admin.get("/v1/engines/engine-0")).json()["state"] == "stopping"


async def test_a_person_clears_a_kind_with_a_reason_that_the_audit_keeps(
    controller: Controller,
) -> None:
    admin = await gated(controller)
    await says(controller, waiting())
    assert_problem(await admin.post("/v1/engines/engine-1/clear", json={}), 422, "request_invalid")
    absent = await admin.post("/v1/engines/engine-9/clear", json={"reason": "it is fine"})
    assert_problem(absent, 404, "not_found")

    answer = await admin.post("/v1/engines/engine-1/clear", json={"reason": "it is fine"})

    assert answer.status_code == 200
    engine = await controller.engine_client()
    snapshot = decode_snapshot((await engine.get("/internal/v1/snapshot")).content)
    assert [kind.build for kind in snapshot.cleared or ()] == ["vllm 1", "vllm 2"]
    (row,) = await controller.context.repository.audit.latest(subject="vllm 2")
    assert (row.action, row.reason) == ("clear_engine_kind", "it is fine")
    assert row.evidence is not None
    assert row.evidence["blocked_by"] == [{"version": NAME, "verdict": None, "why": None}]


async def test_tenants_clear_nothing(controller: Controller) -> None:
    await gated(controller)
    await says(controller, waiting())
    tenant = await controller.tenant("acme", ["read", "push", "promote"])

    answer = await tenant.post("/v1/engines/engine-1/clear", json={"reason": "it is fine"})

    assert answer.status_code == 403


async def test_an_engine_ahead_of_the_registry_is_led_again_once_it_has_reported(
    controller: Controller,
) -> None:
    engine, admin = await controller.engine_client(), await controller.client()

    report = encode(a_report(engine_id="engine-0", revision=500))
    answer = await engine.post("/internal/v1/engines/engine-0/report", content=report)
    assert answer.status_code == 204

    pulled = await engine.get("/internal/v1/snapshot", params={"after": 500, "engine": "engine-0"})

    assert decode_snapshot(pulled.content).revision == 500 + LEAP + 1
    events = (await admin.get("/v1/events")).json()["events"]
    (told,) = [one for one in events if one["action"] == "registry_restored"]
    assert told["evidence"] == {"engine": "engine-0", "from": 0, "to": 500 + LEAP + 1}
    unheard = await engine.get("/internal/v1/snapshot", params={"after": 501, "engine": "engine-1"})
    assert unheard.status_code == 304
    too_far = await engine.get("/internal/v1/snapshot", params={"after": 2**60})
    assert_problem(too_far, 422, "request_invalid")
    assert (await admin.get("/internal/v1/snapshot", params={"after": 600})).status_code in (
        401,
        403,
    )
