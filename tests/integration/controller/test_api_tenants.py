"""Tenants and keys over HTTP."""

from __future__ import annotations

import pytest

from tests.builders.controller import Controller
from tests.builders.problems import assert_problem


async def test_a_tenant_is_made_listed_changed_and_deleted(controller: Controller) -> None:
    admin = await controller.client()

    made = await admin.post("/v1/tenants", json={"id": "acme", "display_name": "Acme Inc"})
    changed = await admin.patch("/v1/tenants/acme", json={"max_in_flight": 4})
    listed = await admin.get("/v1/tenants")
    deleted = await admin.delete("/v1/tenants/acme")

    assert made.status_code == 201
    assert changed.json()["max_in_flight"] == 4
    assert changed.json()["display_name"] == "Acme Inc"
    assert [row["id"] for row in listed.json()["tenants"]] == ["acme"]
    assert deleted.status_code == 204
    assert_problem(await admin.get("/v1/tenants/acme"), 404, "not_found")
    assert_problem(await admin.post("/v1/tenants", json={"id": "acme"}), 409, "already_exists")


@pytest.mark.parametrize(
    ("name", "code"),
    [("Acme", "invalid_name"), ("a/b", "invalid_name"), ("", "invalid_name"),
     ("text", "reserved_name"), ("a" * 64, "invalid_name")],
)  # fmt: skip
async def test_an_illegal_tenant_id_is_refused(
    controller: Controller, name: str, code: str
) -> None:
    admin = await controller.client()

    assert_problem(await admin.post("/v1/tenants", json={"id": name}), 422, code)


async def test_unknown_fields_are_refused_and_their_values_not_repeated(
    controller: Controller,
) -> None:
    admin = await controller.client()

    answer = await admin.post("/v1/tenants", json={"id": "acme", "password": "hunter2"})

    problem = assert_problem(answer, 422, "request_invalid")
    assert problem["errors"][0]["subject"] == "body.password"
    assert "hunter2" not in answer.text


async def test_a_body_over_the_limit_is_refused(controller: Controller) -> None:
    admin = await controller.client()

    answer = await admin.post("/v1/tenants", json={"id": "acme", "display_name": "x" * 300_000})

    assert assert_problem(answer, 413, "artifact_too_large")["data"]["limit"] == 262_144


async def test_broken_json_is_a_problem_too(controller: Controller) -> None:
    admin = await controller.client()

    answer = await admin.post(
        "/v1/tenants", content=b'{"id": ', headers={"content-type": "application/json"}
    )

    assert_problem(answer, 422, "request_invalid")


async def test_a_key_is_shown_once_and_never_again(controller: Controller) -> None:
    admin = await controller.client()
    await admin.post("/v1/tenants", json={"id": "acme"})

    made = (await admin.post("/v1/tenants/acme/keys", json={"name": "ci"})).json()
    listed = await admin.get("/v1/tenants/acme/keys")

    assert made["key"].startswith("lp_")
    assert len(made["key"]) == 46 + 1 + 10
    assert made["prefix"] == made["key"][:11]
    assert made["scopes"] == ["inference", "push", "read"]
    assert made["key"] not in listed.text
    assert listed.json()["keys"][0]["prefix"] == made["prefix"]
    events = await admin.get("/v1/events")
    assert made["key"] not in events.text


async def test_all_keys_of_a_tenant_end_in_its_tag_and_nobody_elses(controller: Controller) -> None:
    """What a load balancer hashes: docs/front.md."""
    admin = await controller.client()
    keys: dict[str, list[str]] = {"acme": [], "globex": []}
    for tenant, made in keys.items():
        await admin.post("/v1/tenants", json={"id": tenant})
        for _ in range(3):
            answer = await admin.post(f"/v1/tenants/{tenant}/keys", json={})
            made.append(answer.json()["key"])

    tags = {tenant: {key.rpartition(".")[2] for key in made} for tenant, made in keys.items()}

    assert [len(found) for found in tags.values()] == [1, 1]
    assert tags["acme"].isdisjoint(tags["globex"])
    assert len({key.partition(".")[0] for made in keys.values() for key in made}) == 6
    assert not any(tenant in key for tenant, made in keys.items() for key in made)


async def test_an_unknown_scope_is_refused(controller: Controller) -> None:
    admin = await controller.client()
    await admin.post("/v1/tenants", json={"id": "acme"})

    answer = await admin.post("/v1/tenants/acme/keys", json={"scopes": ["root"]})

    assert_problem(answer, 422, "request_invalid")


async def test_another_tenants_key_cannot_be_revoked_by_its_id(controller: Controller) -> None:
    admin = await controller.client()
    for tenant in ("acme", "globex"):
        await admin.post("/v1/tenants", json={"id": tenant})
    key = (await admin.post("/v1/tenants/acme/keys", json={})).json()

    assert_problem(await admin.delete(f"/v1/tenants/globex/keys/{key['id']}"), 404, "not_found")

    rows = (await admin.get("/v1/tenants/acme/keys")).json()["keys"]
    assert rows[0]["revoked_at"] is None


async def test_a_suite_is_numbered_by_content(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    path = "/v1/tenants/acme/suites/refunds"

    one = await tenant.put(path, content=b'{"id":"a","prompt":"x"}\n')
    same = await tenant.put(path, content=b'{"id": "a", "prompt": "x"}\n\n')
    two = await tenant.put(path, content=b'{"id":"a","prompt":"y"}\n')

    assert (one.status_code, one.json()["id"]) == (201, "acme/refunds@1")
    assert (same.status_code, same.json()["id"]) == (200, "acme/refunds@1")
    assert (two.status_code, two.json()["id"], two.json()["n_cases"]) == (201, "acme/refunds@2", 1)
    assert (await tenant.get(path)).json()["id"] == "acme/refunds@2"
    listed = (await tenant.get("/v1/tenants/acme/suites")).json()["suites"]
    assert [suite["number"] for suite in listed] == [1, 2]


async def test_a_suite_that_cannot_be_read_names_line_field_and_fix(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme")

    answer = await tenant.put(
        "/v1/tenants/acme/suites/refunds", content=b'{"id":"a","prompt":"x"}\n{"id":"b"}'
    )

    data = assert_problem(answer, 422, "suite_invalid")["data"]
    assert data["line"] == 2
    assert data["fix"]
