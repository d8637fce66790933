"""A version's way as a stream of events, read by its route, by HTTP and by the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.identity import parse_version_id
from serving.cli.client import ControllerClient
from serving.cli.following import follow, progress_bars
from serving.controller.app import create_app
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.routes.version_events import stream_version
from tests.builders.controller import (
    ADMIN,
    Controller,
    a_controller,
    a_server,
    bearer,
    form_of,
    settings_in,
)

NAME = "acme/support@1"
VERSIONS = "/v1/tenants/acme/adapters/support/versions"
STREAM = {"Accept": "text/event-stream"}
SCOPES = ["read", "push", "promote"]


async def pushed(controller: Controller, promote: str = "auto") -> httpx.AsyncClient:
    tenant = await controller.tenant("acme", SCOPES)
    answer = await tenant.post(VERSIONS, files=form_of(), data={"promote": promote})
    assert answer.status_code == 202
    return tenant


async def events_of(controller: Controller, token: str = ADMIN) -> AsyncIterator[bytes]:
    row = await controller.context.repository.versions.find(NAME)
    return aiter(stream_version(controller.context, row, token=token).body_iterator)  # type: ignore[arg-type]


async def read(events: AsyncIterator[bytes]) -> tuple[str, dict[str, Any]]:
    while (text := (await asyncio.wait_for(anext(events), 30)).decode()).startswith(":"):
        pass
    name, data = text.removeprefix("event: ").removesuffix("\n\n").split("\ndata: ")
    return name, json.loads(data)


def parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event: ")]
    return [(b[0].removeprefix("event: "), json.loads(b[1].removeprefix("data: "))) for b in blocks]


async def test_each_change_is_an_event_and_the_last_one_is_the_version(
    controller: Controller,
) -> None:
    await pushed(controller)
    events = await events_of(controller)
    seen = [await read(events)]
    for event in (Event.ACCEPT, Verdict.PASS, Event.SWITCH):
        await controller.lead(NAME, event)
        seen.append(await read(events))

    name, version = await read(events)

    assert [(kind, data["state"]) for kind, data in seen] == [
        ("progress", "validating"), ("progress", "evaluating"), ("progress", "staging"),
        ("progress", "live"),
    ]  # fmt: skip
    assert (name, version["name"], version["verdict"]) == ("end", NAME, "PASS")
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_counts_of_a_stage_are_streamed_as_they_are_written(controller: Controller) -> None:
    await pushed(controller)
    await controller.lead(NAME, Event.ACCEPT)
    events = await events_of(controller)
    await read(events)
    work = controller.context.repository.work
    claimed = await work.claim_due([State.EVALUATING], lease_seconds=9, owner="test")
    assert claimed is not None
    at = {"stage": "candidate", "done": 3, "total": 24, "index": 3, "stages": []}

    await work.apply(NAME, str(claimed.lock_token), None, keep_lease=True, progress=at)
    _, data = await read(events)

    assert {name: data[name] for name in at} == at
    assert data["state"] == "evaluating"


async def test_a_version_that_waits_for_promote_is_settled(controller: Controller) -> None:
    tenant = await pushed(controller, promote="manual")
    await controller.lead(NAME, Event.ACCEPT, Verdict.PASS)

    answer = await tenant.get(f"{VERSIONS}/1", headers=STREAM)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [(kind, data["state"]) for kind, data in parse(answer.text)] == [
        ("progress", "passed"), ("end", "passed")
    ]  # fmt: skip


async def test_json_is_still_what_is_answered_without_asking_for_events(
    controller: Controller,
) -> None:
    tenant = await pushed(controller)

    answer = await tenant.get(f"{VERSIONS}/1")

    assert answer.json()["state"] == "validating"


async def test_another_tenants_version_is_not_streamed(controller: Controller) -> None:
    await pushed(controller)
    other = await controller.tenant("globex", SCOPES)

    answer = await other.get(f"{VERSIONS}/1", headers=STREAM)

    assert answer.status_code == 404


async def test_the_stream_closes_without_an_end_once_its_key_is_revoked(
    controller: Controller,
) -> None:
    await pushed(controller)
    admin = await controller.client()
    key = (await admin.post("/v1/tenants/acme/keys", json={"name": "temporary"})).json()
    events = await events_of(controller, key["key"])
    await read(events)
    controller.clock.advance(20)
    assert (await asyncio.wait_for(anext(events), 30)).startswith(b":")

    await admin.delete(f"/v1/tenants/acme/keys/{key['id']}")
    controller.clock.advance(20)

    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(events), 30)


class WithoutPolls(ControllerClient):
    """A client that may only listen."""

    def fetch(self, path: str, **params: Any) -> Any:
        raise AssertionError(f"{path} was polled")


async def test_the_command_line_follows_the_stream_of_one_replica_while_another_works(
    tmp_path: Path,
) -> None:
    async with a_controller(tmp_path) as controller:
        await pushed(controller)
        app = create_app(settings_in(tmp_path), has_loop=False)
        with (
            a_server(app) as url,
            WithoutPolls(url, ADMIN) as client,
            progress_bars(hidden=True) as p,
        ):
            version = parse_version_id(NAME)
            following = asyncio.create_task(
                asyncio.to_thread(follow, client, version, progress=p, timeout_seconds=60)
            )
            await controller.lead(NAME, Event.ACCEPT, Verdict.PASS, Event.SWITCH)

            shown = await following

    assert (shown["name"], shown["state"]) == (NAME, "live")


async def test_the_stream_is_read_over_http_until_its_end(tmp_path: Path) -> None:
    async with a_controller(tmp_path) as controller:
        await pushed(controller)
        await controller.lead(NAME, Event.ACCEPT, Verdict.FAIL)
        app = create_app(settings_in(tmp_path), has_loop=False)
        with a_server(app) as url:
            answer = await asyncio.to_thread(
                httpx.get, f"{url}{VERSIONS}/1", headers={**STREAM, **bearer(ADMIN)}
            )

    assert [kind for kind, _ in parse(answer.text)] == ["progress", "end"]
