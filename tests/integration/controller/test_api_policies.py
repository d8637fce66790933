"""Policies over HTTP: who may write them, what holds, and where each field comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.controller import Controller, a_controller
from tests.builders.problems import assert_problem

SUPPORT = "/v1/tenants/acme/adapters/support/policy"
YAML = {"content-type": "application/yaml"}


async def test_the_narrowest_scope_wins_and_every_field_says_where_it_is_from(
    controller: Controller,
) -> None:
    admin = await controller.client()
    await admin.post("/v1/tenants", json={"id": "acme"})
    await admin.put("/v1/policy", json={"margin": 0.01, "repeats": 5})
    await admin.put("/v1/tenants/acme/policy", json={"gate": {"margin": 0.02}})
    yaml = b"gate:\n  segment_thresholds: {refund_flow: 0.85}\n"

    put = await admin.put(SUPPORT, content=yaml, headers=YAML)

    assert put.status_code == 201
    shown = (await admin.get(SUPPORT)).json()
    assert shown == put.json()
    assert shown["policy"]["margin"] == 0.02
    assert shown["policy"]["repeats"] == 5
    assert shown["policy"]["segment_thresholds"] == {"refund_flow": 0.85}
    assert shown["sources"]["margin"] == {"scope": "tenant", "number": 1}
    assert shown["sources"]["repeats"] == {"scope": "fleet", "number": 1}
    assert shown["sources"]["segment_thresholds.refund_flow"]["scope"] == "adapter"
    assert shown["sources"]["seed"] == {"scope": "default", "number": None}
    assert shown["content"] == {"segment_thresholds": {"refund_flow": 0.85}}


async def test_an_old_policy_can_be_seen_and_equal_content_makes_no_new_one(
    controller: Controller,
) -> None:
    admin = await controller.client()
    first = await admin.put("/v1/policy", json={"margin": 0.01})
    await admin.put("/v1/policy", json={"margin": 0.02})

    again = await admin.put("/v1/policy", content=b"margin: 0.02", headers=YAML)

    assert first.status_code == 201
    assert again.status_code == 200
    assert again.json()["number"] == 2
    old = (await admin.get("/v1/policy", params={"number": 1})).json()
    assert old["content"] == {"margin": 0.01}
    assert old["created_by"] == "admin"
    assert_problem(await admin.get("/v1/policy", params={"number": 3}), 404, "not_found")
    audit = (await admin.get("/v1/events", params={"subject": "policy"})).json()["events"]
    numbers = [(row["evidence"]["old_number"], row["evidence"]["new_number"]) for row in audit]
    assert numbers == [(1, 2), (None, 1)]
    assert {row["actor"] for row in audit} == {"admin"}


async def test_a_tenants_key_reads_its_own_policy_and_writes_none(controller: Controller) -> None:
    key = await controller.tenant("acme", ["read", "push", "promote"])
    await controller.tenant("globex")

    for path in ("/v1/policy", "/v1/tenants/acme/policy", SUPPORT):
        refused = await key.put(path, json={"require_export_evidence": False})
        assert_problem(refused, 403, "forbidden")

    assert (await key.get("/v1/tenants/acme/policy")).json()["number"] is None
    assert (await key.get(SUPPORT)).status_code == 200
    assert_problem(await key.get("/v1/policy"), 403, "forbidden")
    assert_problem(await key.get("/v1/tenants/globex/policy"), 404, "not_found")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"margn: 0.1", "margn"),
        (b"margin: 2", "margin"),
        (b"contamination: {jaccard: high}", "contamination.jaccard"),
        (b"segment_thresholds: {a: 1.5}", "segment_thresholds.a"),
        (b"- margin", ""),
        (b"{", ""),
        (b"a: 2001-99-99", ""),
        (b"[" * 100_000, ""),
    ],
)
async def test_a_policy_that_cannot_be_read_is_refused_with_field_and_fix(
    controller: Controller, content: bytes, field: str
) -> None:
    admin = await controller.client()

    answer = await admin.put("/v1/policy", content=content, headers=YAML)

    data = assert_problem(answer, 422, "policy_invalid")["data"]
    assert data["field"] == field
    assert data["fix"]
    assert (await admin.get("/v1/policy")).json()["number"] is None


async def test_a_tenant_that_does_not_exist_has_no_policy(controller: Controller) -> None:
    admin = await controller.client()

    for path in ("/v1/tenants/acme/policy", SUPPORT):
        assert_problem(await admin.put(path, json={"margin": 0.1}), 404, "not_found")
        assert_problem(await admin.get(path), 404, "not_found")


async def test_settings_of_the_controller_show_as_the_widest_scope(tmp_path: Path) -> None:
    async with a_controller(tmp_path, gate_min_cases=4) as controller:
        admin = await controller.client()

        shown = (await admin.get("/v1/policy")).json()

    assert shown["policy"]["min_numeric_cases"] == 4
    assert shown["sources"]["min_numeric_cases"] == {"scope": "settings", "number": None}
    assert shown["sources"]["repeats"]["scope"] == "default"
