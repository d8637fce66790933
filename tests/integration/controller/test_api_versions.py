"""Moves, reports, engines, events and operations over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from serving.contract import (
    AdapterCounts,
    VersionReport,
    VersionState,
    decode_snapshot,
    gate_key,
    hash_key,
)
from serving.controller.lifecycle import Event, Verdict
from tests.builders.controller import SECRET, Controller, a_report, form_of
from tests.builders.problems import assert_problem

VERSIONS = "/v1/tenants/acme/adapters/support/versions"
ALL = ["inference", "read", "push", "promote"]


async def test_a_version_is_promoted_replaced_and_rolled_back(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    await controller.make_live(tenant, "acme", b"one")
    await controller.make_live(tenant, "acme", b"two")

    before = (await tenant.get("/v1/tenants/acme/adapters/support")).json()
    back = await tenant.post("/v1/tenants/acme/adapters/support/rollback", json={"reason": "oops"})
    after = (await tenant.get("/v1/tenants/acme/adapters/support")).json()

    assert (before["live"], before["previous"]) == (2, 1)
    assert (back.json()["name"], back.json()["state"]) == ("acme/support@1", "live")
    assert (after["live"], after["previous"]) == (1, 2)
    assert [v["state"] for v in after["versions"]] == ["superseded", "live"]


async def test_a_failed_version_needs_a_reason_to_be_promoted(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())
    await controller.lead("acme/support@1", Event.ACCEPT, Verdict.FAIL)

    bare = await tenant.post(f"{VERSIONS}/1/promote")
    with_reason = await tenant.post(
        f"{VERSIONS}/1/promote", json={"override_reason": "known to be fine"}
    )

    assert_problem(bare, 409, "override_needed")
    assert with_reason.json()["state"] == "staging"
    shown = (await tenant.get(f"{VERSIONS}/1")).json()
    assert shown["override_reason"] == "known to be fine"
    assert shown["override_by"].startswith("key:lp_")
    audit = (await tenant.get("/v1/events", params={"subject": "acme/support@1"})).json()["events"]
    (override,) = (row for row in audit if row["action"] == "override")
    assert override["reason"] == "known to be fine"
    assert override["evidence"]["verdict"] == "FAIL"
    assert override["evidence"]["report"] == {"attempt": 0, "recheck": 0}


async def test_a_report_says_which_one_it_is_and_who_overrode_it(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())
    await controller.lead("acme/support@1", Event.ACCEPT, Verdict.FAIL)
    plain = (await tenant.get(f"{VERSIONS}/1/report")).json()
    await tenant.post(f"{VERSIONS}/1/promote", json={"override_reason": "known to be fine"})

    shown = (await tenant.get(f"{VERSIONS}/1/report", params={"attempt": 0, "recheck": 0})).json()

    assert (plain["override"], plain["attempt"], plain["recheck"]) == (None, 0, 0)
    assert shown["override"]["reason"] == "known to be fine"
    assert [note["code"] for note in shown["notes"]] == ["overridden"]
    absent = await tenant.get(f"{VERSIONS}/1/report", params={"recheck": 1})
    assert_problem(absent, 404, "not_found")


async def test_a_blank_reason_overrides_nothing(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())
    await controller.lead("acme/support@1", Event.ACCEPT, Verdict.FAIL)

    answer = await tenant.post(f"{VERSIONS}/1/promote", json={"override_reason": "    "})

    assert_problem(answer, 409, "override_needed")
    assert (await tenant.get(f"{VERSIONS}/1")).json()["state"] == "failed"


async def test_a_move_that_the_state_does_not_allow_says_what_is_allowed(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())

    answer = await tenant.post(f"{VERSIONS}/1/evaluate")

    data = assert_problem(answer, 409, "illegal_transition")["data"]
    assert data["state"] == "validating"
    assert "retire" in data["allowed"]


async def test_an_adapter_without_previous_version_cannot_be_rolled_back(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme", ALL)
    await controller.make_live(tenant, "acme", b"one")

    answer = await tenant.post("/v1/tenants/acme/adapters/support/rollback")
    absent = await tenant.post("/v1/tenants/acme/adapters/sql/rollback")

    assert_problem(answer, 409, "nothing_to_roll_back")
    assert_problem(absent, 404, "not_found")


async def test_the_report_is_json_or_a_page_that_escapes_what_it_shows(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())
    assert_problem(await tenant.get(f"{VERSIONS}/1/report"), 404, "not_found")
    await controller.lead("acme/support@1", Event.ACCEPT, Verdict.INCONCLUSIVE)

    as_json = await tenant.get(f"{VERSIONS}/1/report")
    page = await tenant.get(f"{VERSIONS}/1/report", headers={"Accept": "text/html"})

    assert as_json.json()["verdict"] == "INCONCLUSIVE"
    assert page.headers["content-type"].startswith("text/html")
    assert "<b>y</b>" not in page.text
    assert "&lt;b&gt;y" in page.text


async def test_a_reevaluation_is_a_new_attempt(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    await tenant.post(VERSIONS, files=form_of())
    await controller.lead("acme/support@1", Event.ACCEPT, Verdict.FAIL)

    answer = await tenant.post(f"{VERSIONS}/1/evaluate", json={"reason": "new engine build"})

    assert (answer.status_code, answer.json()["state"]) == (202, "evaluating")
    assert answer.json()["attempt"] == 1


async def test_an_engine_pulls_what_is_live_and_waits_for_changes(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    engine = await controller.engine_client()

    answer = await engine.get("/internal/v1/snapshot?after=-1&engine=engine-0")
    snapshot = decode_snapshot(answer.content)
    unchanged = await engine.get(f"/internal/v1/snapshot?after={snapshot.revision}&wait=0")

    assert [version.name for version in snapshot.versions] == [name]
    assert [(a.tenant, a.adapter, a.number) for a in snapshot.aliases] == [("acme", "support", 1)]
    gate = next(grant for grant in snapshot.keys if grant.key_id == "gate")
    assert gate.key_hash == hash_key(gate_key(SECRET), cluster_secret=SECRET)
    assert snapshot.store_url.startswith("file:///")
    assert answer.headers["etag"] == f'"{snapshot.revision}"'
    assert unchanged.status_code == 304


async def test_a_report_shows_up_in_engines_versions_capacity_and_metrics(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    engine, admin = await controller.engine_client(), await controller.client()
    report = a_report(
        versions=[
            VersionReport(name=name, digest="d", state=VersionState.PROVEN, in_flight=2),
            VersionReport(name="acme/support@9", digest="d", state=VersionState.QUARANTINED),
        ],
        counts=[AdapterCounts(name=name, loads_disk=1, evictions_slot=4, requests=9)],
        active=[name],
        hot={"1m": 1},
    )

    sent = await engine.post(
        "/internal/v1/engines/engine-0/report", content=msgspec.json.encode(report)
    )

    assert sent.status_code == 204
    (shown,) = (await admin.get("/v1/engines")).json()["engines"]
    assert (shown["id"], shown["state"]) == ("engine-0", "ready")
    assert (await admin.get("/v1/engines/engine-0")).json() == shown
    (on,) = (await tenant.get(f"{VERSIONS}/1")).json()["engines"]
    assert (on["engine"], on["state"], on["in_flight"]) == ("engine-0", "proven", 2)
    (capacity,) = (await admin.get("/v1/capacity")).json()["engines"]
    assert (capacity["active"], capacity["evictions_slot"]) == ([name], 4)
    text = (await admin.get("/metrics")).text
    assert 'loraplane_engines{state="ready"} 1.0' in text
    assert 'loraplane_versions{state="live"} 1.0' in text
    assert 'loraplane_snapshot_lag_revisions{engine="engine-0"}' in text
    assert 'loraplane_versions_out_of_service{engine="engine-0"} 1.0' in text


async def test_a_silent_engine_is_unreachable_not_absent_until_it_is_forgotten(
    controller: Controller,
) -> None:
    engine, admin = await controller.engine_client(), await controller.client()
    await engine.post(
        "/internal/v1/engines/engine-0/report", content=msgspec.json.encode(a_report())
    )
    controller.clock.advance(60)

    (shown,) = (await admin.get("/v1/engines")).json()["engines"]
    capacity = (await admin.get("/v1/capacity")).json()
    text = (await admin.get("/metrics")).text
    forgotten = await admin.delete("/v1/engines/engine-0")

    assert shown["state"] == "unreachable"
    assert (capacity["engines"], capacity["unreachable"]) == ([], ["engine-0"])
    assert 'loraplane_engines{state="unreachable"} 1.0' in text
    assert "snapshot_lag_revisions{" not in text
    assert forgotten.status_code == 204
    assert_problem(await admin.get("/v1/engines/engine-0"), 404, "not_found")
    assert_problem(await admin.delete("/v1/engines/engine-0"), 404, "not_found")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"engine_id": "engine-0"}', b"\xff"])
async def test_a_report_that_is_none_is_refused(controller: Controller, body: bytes) -> None:
    engine = await controller.engine_client()

    answer = await engine.post("/internal/v1/engines/engine-0/report", content=body)

    assert_problem(answer, 422, "request_invalid")


async def test_a_report_of_a_newer_format_or_of_another_engine_is_refused(
    controller: Controller,
) -> None:
    engine = await controller.engine_client()

    for report in (a_report(format=99), a_report("engine-1")):
        answer = await engine.post(
            "/internal/v1/engines/engine-0/report", content=msgspec.json.encode(report)
        )
        assert_problem(answer, 422, "request_invalid")


async def test_events_say_who_moved_what_from_where_to_where(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ALL)
    other = await controller.tenant("globex", ALL)
    await controller.make_live(tenant, "acme", b"one")
    admin = await controller.client()

    all_rows = (await admin.get("/v1/events?limit=500")).json()["events"]
    own = (await tenant.get("/v1/events")).json()["events"]
    foreign = (await other.get("/v1/events")).json()["events"]
    later = (await admin.get(f"/v1/events?after={all_rows[3]['id']}")).json()

    moves = [(row["action"], row["from"], row["to"]) for row in own[::-1] if row["from"]]
    assert moves == [
        ("acknowledge", "uploading", "validating"),
        ("accept", "validating", "evaluating"),
        ("pass", "evaluating", "passed"),
        ("promote", "passed", "staging"),
        ("switch", "staging", "live"),
    ]
    assert {row["tenant"] for row in own} == {"acme"}
    assert {row["tenant"] for row in foreign} == {"globex"}
    assert [row["id"] for row in all_rows] == sorted((r["id"] for r in all_rows), reverse=True)
    assert len(later["events"]) == 3
    assert later["last_id"] == all_rows[0]["id"]


async def test_operations_answer_without_a_token_and_name_no_tenant(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme", ALL)
    await controller.make_live(tenant, "acme", b"one")
    nobody = await controller.client(None)

    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/dashboard"):
        answer = await nobody.get(path)
        assert answer.status_code == 200, path
        assert "acme/support@1" not in answer.text
    assert_problem(await nobody.get("/dashboard/secret"), 404, "not_found")
    assert_problem(await nobody.get("/nowhere"), 404, "no_route")
    assert_problem(await nobody.put("/healthz"), 405, "method_not_allowed")


async def test_the_controller_is_not_ready_without_loop_or_registry(
    controller: Controller,
) -> None:
    nobody = await controller.client(None)
    controller.app.state.is_loop_running = lambda: False

    answer = await nobody.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["loop_stopped"]


async def test_without_its_registry_the_controller_is_alive_but_not_ready(
    controller: Controller, tmp_path: Path
) -> None:
    nobody, admin = await controller.client(None), await controller.client()
    await controller.context.repository.close()
    for name in ("registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)

    answer = await nobody.get("/readyz")

    assert (answer.status_code, answer.json()["reasons"]) == (503, ["registry_unavailable"])
    assert (await nobody.get("/healthz")).status_code == 200
    refused = await admin.get("/v1/tenants")
    assert_problem(refused, 503, "registry_unavailable")
    assert int(refused.headers["retry-after"]) > 0


async def test_an_unexpected_error_shows_its_id_and_nothing_else(controller: Controller) -> None:
    @controller.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    answer = await (await controller.client()).get("/broken")

    assert_problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text


async def test_the_operator_sees_all_adapters_at_once(controller: Controller) -> None:
    for name in ("acme", "globex"):
        tenant = await controller.tenant(name, ALL)
        await controller.make_live(tenant, name, b"one")

    body = (await (await controller.client()).get("/v1/adapters")).json()

    assert [(a["tenant"], a["name"], a["live"]) for a in body["adapters"]] == [
        ("acme", "support", 1),
        ("globex", "support", 1),
    ]
    assert [len(a["versions"]) for a in body["adapters"]] == [1, 1]


async def test_the_openapi_document_describes_the_upload(controller: Controller) -> None:
    document = (await (await controller.client(None)).get("/openapi.json")).json()

    path = "/v1/tenants/{tenant}/adapters/{adapter}/versions"
    body = document["paths"][path]["post"]["requestBody"]
    assert "multipart/form-data" in body["content"]
    assert not any(path.startswith("/internal") for path in document["paths"])
    assert json.dumps(document)
