"""/v1/fleet over a real registry."""

from __future__ import annotations

from serving.contract import VersionReport, VersionState, encode
from serving.controller.lifecycle import Event, Verdict
from tests.builders.controller import Controller, a_report, form_of

PATH = "/v1/tenants/acme/adapters/support/versions"


async def test_an_empty_fleet_is_said_to_be_empty(controller: Controller) -> None:
    admin = await controller.client()

    body = (await admin.get("/v1/fleet")).json()

    assert body["engines"] == []
    assert (body["n_troubles"], body["troubles"]) == (0, [])
    assert set(body["versions"].values()) == {0}
    assert body["is_ready"] is True


async def test_engines_versions_and_troubles_are_told_at_a_glance(controller: Controller) -> None:
    admin, tenant = await controller.client(), await controller.tenant("acme", ["push", "read"])
    await controller.make_live(tenant, "acme", b"one")
    await tenant.post(PATH, files=form_of(b"two"))
    await controller.lead("acme/support@2", Event.ACCEPT, Verdict.FAIL)
    out = VersionReport("acme/support@1", "sha256:0", VersionState.FAILED, reason="probe_mismatch")
    engine = await controller.engine_client()
    report = a_report("engine-0", versions=[out])
    await engine.post("/internal/v1/engines/engine-0/report", content=encode(report))

    body = (await admin.get("/v1/fleet")).json()

    (shown,) = body["engines"]
    assert (shown["state"], shown["n_out"], shown["lag"]) == ("ready", 1, body["revision"])
    assert body["versions"]["live"] == 1
    told = [(one["name"], one["kind"], one["why"]) for one in body["troubles"]]
    assert told == [
        ("acme/support@1", "out", "probe_mismatch"),
        ("acme/support@2", "refused", None),
    ]
    assert body["n_troubles"] == 2


async def test_an_unreachable_engine_is_listed_and_blamed_for_nothing(
    controller: Controller,
) -> None:
    engine, admin = await controller.engine_client(), await controller.client()
    out = VersionReport("acme/support@1", "sha256:0", VersionState.FAILED, reason="probe_mismatch")
    report = a_report("engine-0", versions=[out])
    await engine.post("/internal/v1/engines/engine-0/report", content=encode(report))
    controller.clock.advance(3600)

    body = (await admin.get("/v1/fleet")).json()

    assert body["engines"][0]["state"] == "unreachable"
    assert body["troubles"] == []
    assert controller.app.state.is_loop_running()
    controller.app.state.is_loop_running = lambda: False
    stopped = (await admin.get("/v1/fleet")).json()
    assert (stopped["is_ready"], stopped["reasons"]) == (False, ["loop_stopped"])
