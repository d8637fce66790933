"""What a request holds once it is inside: a place, a version; and when there is none for it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.contract import KeyGrant
from serving.engine.runtime import set_runtime
from serving.engine.scope import RequestScope
from serving.engine.tenancy import TenancyMiddleware, current_scope
from tests.builders.snapshots import key, snapshot, version
from tests.fakes.engine_port import DESCRIPTION
from tests.fakes.front_door import Served, behind_the_door


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with behind_the_door(tmp_path) as tiny:
        yield tiny


def rejections(served: Served, reason: str) -> float | None:
    return served.world.registry.get_sample_value(
        "loraplane_admission_rejections_total", {"reason": reason}
    )


async def test_an_answer_that_was_never_admitted_is_withheld(served: Served) -> None:
    response = await served.ask(is_bypass=True)

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "not_admitted"


async def test_the_limit_of_requests_in_flight_is_a_429_and_ends_with_them(served: Served) -> None:
    served.may_go_on.clear()
    running = [asyncio.create_task(served.ask()) for _ in range(2)]
    await served.world.until(lambda: served.n_inside == 2)

    third = await served.ask()

    assert third.status_code == 429
    assert third.headers["retry-after"] == "1"
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert served.world.runtime.admission.claims("acme/support@1") == 2
    served.may_go_on.set()
    assert {r.status_code for r in await asyncio.gather(*running)} == {200}
    assert (await served.ask()).status_code == 200
    assert served.world.runtime.admission.claims("acme/support@1") == 0
    assert rejections(served, "rate_limit_exceeded") == 1.0


async def test_a_stream_holds_its_version_until_its_last_byte(served: Served) -> None:
    served.may_go_on.clear()
    claims = served.world.runtime.admission.claims
    async with (
        served.client() as client,
        client.stream(
            "POST", "/v1/completions", json={"model": "support", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "data: acme/support@1"
        assert claims("acme/support@1") == 1
        served.may_go_on.set()
        rest = [line async for line in lines if line]

    assert rest == ["data: acme/support@1"] * 2
    await served.world.until(lambda: claims("acme/support@1") == 0)


async def test_a_client_that_goes_away_gives_up_its_version(served: Served) -> None:
    served.may_go_on.clear()
    claims = served.world.runtime.admission.claims
    async with (
        served.client() as client,
        client.stream(
            "POST", "/v1/completions", json={"model": "support", "stream": True}
        ) as response,
    ):
        assert await anext(response.aiter_lines()) == "data: acme/support@1"
        assert claims("acme/support@1") == 1

    await served.world.until(lambda: claims("acme/support@1") == 0)


async def test_an_adapter_that_is_not_ready_is_a_503_with_retry_after(served: Served) -> None:
    response = await served.ask("broken")

    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert rejections(served, "adapter_not_ready") == 1.0


async def test_a_key_that_falls_back_says_that_the_base_model_answered(served: Served) -> None:
    async with served.client("falls-back") as client:
        response = await client.post("/v1/completions", json={"model": "broken"})

    assert response.json() == {"model": "base"}
    assert response.headers["x-loraplane-fallback"] == "acme/broken@1"


async def test_draining_turns_new_requests_away_and_is_not_ready(served: Served) -> None:
    async with served.client() as client:
        assert (await client.get("/ready")).json() == {"status": "ready"}
        served.world.runtime.drain()
        ready = await client.get("/ready")
        health = await client.get("/health")
    refused = await served.ask()

    assert (ready.status_code, health.status_code, refused.status_code) == (503, 200, 503)
    assert refused.headers["retry-after"] == "1"


async def test_before_the_runtime_exists_everything_waits(served: Served) -> None:
    set_runtime(None)

    assert (await served.ask()).status_code == 503
    async with served.client() as client:
        ready = await client.get("/ready")
        assert (await client.get("/metrics")).status_code == 404
    assert ready.status_code == 503
    assert ready.json()["waiting_for"] == "the engine starts"


async def test_an_ended_request_leaves_nothing_that_only_the_collector_could_free(
    served: Served,
) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await served.world.runtime.admit(current_scope(), "support", {})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(_message: Any) -> None:
        """The client."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    headers = [(b"authorization", b"Bearer acme-key")]
    scope = {"type": "http", "path": "/v1/completions", "method": "POST", "headers": headers}
    gc.collect()
    gc.disable()
    try:
        await TenancyMiddleware(app)(scope, receive, send)

        assert not [one for one in gc.get_objects() if isinstance(one, RequestScope)]
    finally:
        gc.enable()


async def test_a_known_key_is_turned_away_as_soon_as_its_snapshot_is_without_it(
    served: Served,
) -> None:
    for _ in range(2):
        assert (await served.ask()).status_code == 200
    before = served.world.link.snapshot
    assert before is not None

    kept = [grant for grant in before.keys if grant.key_id != "key-acme-key"]
    served.world.link.publish(msgspec.structs.replace(before, revision=2, keys=kept))
    await served.world.until(lambda: served.world.runtime.agent.followed_revision == 2)

    assert (await served.ask()).status_code == 401


async def test_a_known_name_means_what_the_latest_snapshot_says(served: Served) -> None:
    assert (await served.ask()).json() == {"model": "acme/support@1"}
    before = served.world.link.snapshot
    assert before is not None
    second = version("acme/support@2", digest=await served.world.put("second"))
    changed = snapshot(
        *before.versions, second, revision=2, keys=tuple(before.keys),
        aliases=("acme/support@2", "beta/sql@1"), store_url=served.world.store_url,
    )  # fmt: skip
    served.world.link.publish(changed)
    await served.world.until(lambda: served.world.runtime.agent.followed_revision == 2)

    assert (await served.ask()).json() == {"model": "acme/support@2"}
    assert (await served.ask("support@1")).json() == {"model": "acme/support@1"}


async def test_a_known_key_is_turned_away_while_the_engine_drains(served: Served) -> None:
    assert (await served.ask()).status_code == 200

    served.world.runtime.drain()

    assert (await served.ask()).status_code == 503


async def test_keys_are_looked_at_one_by_one_where_the_kind_of_engine_is_not_cleared_any_more(
    tmp_path: Path,
) -> None:
    async with behind_the_door(tmp_path, cleared=[]) as served:
        runtime = served.world.runtime
        before = served.world.link.snapshot
        assert before is not None
        was_open = []
        # With no pause: a look at its readiness in between would count as having served.
        for revision, cleared in ((2, [DESCRIPTION.kind]), (3, [])):
            now = msgspec.structs.replace(before, revision=revision, cleared=cleared)
            runtime._adapt(now)
            was_open.append(runtime.is_open)
            runtime.agent.snapshot = now
            runtime._follow(now)
            was_open.append(runtime.is_open)

        assert was_open == [False, True, False, False]
        assert (await served.ask()).status_code == 503


async def test_what_is_admitted_without_a_wait_is_what_would_be_admitted_with_one(
    served: Served,
) -> None:
    runtime = served.world.runtime
    acme, beta = key("acme-key"), key("beta-key", tenant="beta")
    before = served.world.link.snapshot
    assert before is not None

    def tried(model: str | None, grant: KeyGrant = acme, **fields: object) -> str | None:
        scope = RequestScope(grant)
        if runtime.try_admit(scope, model, fields):
            return scope.answering_name()
        assert (scope.answer, scope.hold) == (None, None)
        return None

    assert tried("support") is None  # Nobody has asked for it yet.
    assert (await served.ask()).json() == {"model": "acme/support@1"}
    assert tried("support") == "acme/support@1"
    assert runtime.admission.claims("acme/support@1") == 1
    assert tried("support", priority=1) is None
    assert tried("support", beta) is None
    assert (await served.ask("broken")).status_code == 503
    assert (await served.ask("absent")).status_code == 404
    for model in ("broken", "absent", "", None):
        assert tried(model) is None
    served.world.link.publish(msgspec.structs.replace(before, revision=2, aliases=[]))
    await served.world.until(lambda: runtime.agent.followed_revision == 2)
    assert tried("support") is None
