"""Who reaches what: deny by default, foreign and absent look the same."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from serving.controller import auth
from serving.controller.app import ROUTERS
from tests.builders.controller import Controller, form_of
from tests.builders.problems import assert_problem

OPEN_TO_ALL = {
    "/healthz", "/readyz", "/metrics", "/openapi.json", "/dashboard", "/dashboard/{name}",
}  # fmt: skip
RULES = {auth.admin_only, auth.engine_only, auth.authenticated}

ADMIN_ONLY = [
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tenants"),
    ("PATCH", "/v1/tenants/acme"),
    ("DELETE", "/v1/tenants/acme"),
    ("POST", "/v1/tenants/acme/keys"),
    ("GET", "/v1/tenants/acme/keys"),
    ("DELETE", "/v1/tenants/acme/keys/key_1"),
    ("GET", "/v1/adapters"),
    ("GET", "/v1/engines"),
    ("GET", "/v1/engines/engine-0"),
    ("DELETE", "/v1/engines/engine-0"),
    ("GET", "/v1/capacity"),
    ("GET", "/v1/capacity/plan"),
    ("GET", "/v1/capacity/history"),
    ("GET", "/v1/capacity/adapters"),
    ("PUT", "/v1/capacity/residency"),
    ("GET", "/v1/engines/engine-0/trace"),
    ("GET", "/v1/fleet"),
]
ENGINE_ONLY = [
    ("GET", "/internal/v1/snapshot"),
    ("POST", "/internal/v1/engines/engine-0/report"),
]
TENANT_ROUTES = [
    ("GET", "/v1/tenants/{}"),
    ("GET", "/v1/tenants/{}/adapters"),
    ("GET", "/v1/tenants/{}/adapters/support"),
    ("POST", "/v1/tenants/{}/adapters/support/rollback"),
    ("POST", "/v1/tenants/{}/adapters/support/versions"),
    ("GET", "/v1/tenants/{}/adapters/support/versions/1"),
    ("GET", "/v1/tenants/{}/adapters/support/versions/1/report"),
    ("POST", "/v1/tenants/{}/adapters/support/versions/1/evaluate"),
    ("POST", "/v1/tenants/{}/adapters/support/versions/1/promote"),
    ("POST", "/v1/tenants/{}/adapters/support/versions/1/retire"),
    ("GET", "/v1/tenants/{}/suites"),
    ("GET", "/v1/tenants/{}/suites/refunds"),
    ("PUT", "/v1/tenants/{}/suites/refunds"),
    ("GET", "/v1/events?tenant={}"),
]


def test_every_route_names_its_access_rule_or_is_listed_as_open() -> None:
    unguarded = set()
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, Route)
            if not _rules(route) & RULES:
                unguarded.add(route.path)

    assert unguarded <= OPEN_TO_ALL


def _rules(route: Route) -> set[object]:
    if isinstance(route, APIRoute):
        return _calls(route.dependant)
    return {getattr(route.endpoint, "access_rule", None)}


def _calls(dependant: object) -> set[object]:
    found = {getattr(dependant, "call", None)}
    for child in getattr(dependant, "dependencies", ()):
        found |= _calls(child)
    return found


async def test_without_a_token_nothing_but_the_open_routes_answers(controller: Controller) -> None:
    nobody = await controller.client(None)

    for method, path in [*ADMIN_ONLY, *TENANT_ROUTES, *ENGINE_ONLY]:
        answer = await nobody.request(method, path.format("acme"))
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["", "nonsense", "lp_" + "x" * 43, "the-admin-toke", "ü"])
async def test_a_token_that_nobody_holds_is_refused(controller: Controller, token: str) -> None:
    client = await controller.client(None)

    answer = await client.get(
        "/v1/tenants", headers=[(b"Authorization", b"Bearer " + token.encode())]
    )

    assert_problem(answer, 401, "unauthenticated")


async def test_a_tenants_key_does_not_reach_the_operators_routes(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ["inference", "base", "read", "push", "promote"])

    for method, path in [*ADMIN_ONLY, *ENGINE_ONLY]:
        assert_problem(await tenant.request(method, path, json={"id": "x"}), 403, "forbidden")


async def test_a_foreign_tenant_and_an_absent_one_look_the_same(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ["read", "push", "promote"])
    other = await controller.tenant("globex", ["read", "push", "promote"])
    await controller.make_live(other, "globex", b"theirs")

    for method, path in TENANT_ROUTES:
        foreign = await tenant.request(method, path.format("globex"))
        absent = await tenant.request(method, path.format("nobody"))
        found = assert_problem(foreign, 404, "not_found")
        same = assert_problem(absent, 404, "not_found")
        for body in (found, same):
            body.pop("request_id")
        text = str(found).replace("globex", "nobody")
        assert text == str(same), path


async def test_the_engines_token_reaches_no_tenants_things(controller: Controller) -> None:
    await controller.tenant("acme")
    engine = await controller.engine_client()

    assert_problem(await engine.get("/v1/tenants/acme"), 404, "not_found")
    assert_problem(await engine.get("/v1/tenants"), 403, "forbidden")
    assert_problem(await engine.get("/v1/events"), 403, "forbidden")


async def test_the_admin_token_does_not_speak_for_engines(controller: Controller) -> None:
    admin = await controller.client()

    for method, path in ENGINE_ONLY:
        assert_problem(await admin.request(method, path), 403, "forbidden")


async def test_each_scope_opens_its_own_routes(controller: Controller) -> None:
    reader = await controller.tenant("acme", ["read"])
    pusher = await controller.tenant("acme", ["push"])
    versions = "/v1/tenants/acme/adapters/support/versions"

    assert_problem(await reader.post(versions, files=form_of()), 403, "forbidden")
    assert (await pusher.post(versions, files=form_of())).status_code == 202
    assert_problem(await pusher.get(f"{versions}/1"), 403, "forbidden")
    assert (await reader.get(f"{versions}/1")).status_code == 200
    assert_problem(await pusher.post(f"{versions}/1/promote"), 403, "forbidden")


async def test_the_default_key_may_push_and_read_but_not_promote(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    versions = "/v1/tenants/acme/adapters/support/versions"

    assert (await tenant.post(versions, files=form_of())).status_code == 202
    assert (await tenant.get(f"{versions}/1")).status_code == 200
    problem = assert_problem(await tenant.post(f"{versions}/1/promote"), 403, "forbidden")
    assert problem["data"] == {"needed": "scope promote"}


async def test_a_revoked_key_and_an_expired_one_are_refused(controller: Controller) -> None:
    admin = await controller.client()
    await admin.post("/v1/tenants", json={"id": "acme"})
    body = {"name": "ci", "expires_at": controller.clock.now + 60}
    keys = [(await admin.post("/v1/tenants/acme/keys", json=body)).json() for _ in range(2)]
    clients = [await controller.client(key["key"]) for key in keys]
    assert [(await c.get("/v1/tenants/acme")).status_code for c in clients] == [200, 200]

    await admin.delete(f"/v1/tenants/acme/keys/{keys[0]['id']}")
    assert_problem(await clients[0].get("/v1/tenants/acme"), 401, "unauthenticated")
    controller.clock.advance(61)
    assert_problem(await clients[1].get("/v1/tenants/acme"), 401, "unauthenticated")
