"""The calls to the controller, on a transport in the same process."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from serving.contract import EngineReport, decode_report, encode, engine_token
from serving.engine.link import ControllerUnreachable, HttpLink
from tests.builders.snapshots import SECRET, snapshot, version

SNAPSHOT = snapshot(version("acme/support@1"), revision=7)
REPORT = EngineReport(
    engine_id="e1", url="http://e1", build="b", dtype="float32", revision=7, is_ready=True,
    started_at=1.0, gpu_slots=1, cpu_slots=4, max_rank=8, max_model_len=64,
)  # fmt: skip


def link(answer: Callable[[httpx.Request], httpx.Response]) -> HttpLink:
    return HttpLink(
        "http://controller/",
        cluster_secret=SECRET,
        engine_id="e1",
        transport=httpx.MockTransport(answer),
    )


def controller(request: httpx.Request) -> httpx.Response:
    if request.headers["authorization"] != f"Bearer {engine_token(SECRET)}":
        return httpx.Response(401)
    if request.url.path == "/internal/v1/snapshot":
        assert request.url.params["engine"] == "e1"
        if int(request.url.params["after"]) < SNAPSHOT.revision:
            return httpx.Response(200, content=encode(SNAPSHOT))
        return httpx.Response(304)
    if request.url.path == "/internal/v1/engines/e1/report":
        is_ours = decode_report(request.content) == REPORT
        return httpx.Response(204 if is_ours else 400)
    return httpx.Response(404)


async def test_a_newer_snapshot_is_pulled_and_an_old_one_is_none() -> None:
    ours = link(controller)

    assert await ours.pull(after=-1, wait_seconds=0) == SNAPSHOT
    assert await ours.pull(after=7, wait_seconds=0) is None
    await ours.close()


async def test_a_report_is_handed_over() -> None:
    ours = link(controller)

    await ours.report(REPORT)
    await ours.close()


def refuse(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    "answer",
    [
        refuse,
        lambda _: httpx.Response(500),
        lambda _: httpx.Response(401),
        lambda _: httpx.Response(200, content=b"<html>"),
        lambda _: httpx.Response(200, content=b'{"revision": 1}'),
    ],
)
async def test_whatever_is_no_answer_is_unreachable_not_empty(
    answer: Callable[[httpx.Request], httpx.Response],
) -> None:
    ours = link(answer)

    with pytest.raises(ControllerUnreachable):
        await ours.pull(after=-1, wait_seconds=0)


async def test_a_report_that_is_not_taken_is_told() -> None:
    with pytest.raises(ControllerUnreachable):
        await link(lambda _: httpx.Response(503)).report(REPORT)
