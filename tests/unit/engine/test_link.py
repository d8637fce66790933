"""The calls to the controller, on a transport in the same process."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec
import pytest

from serving.contract import EngineReport, decode_report, encode, engine_token
from serving.engine.link import ControllerUnreachable, HttpLink
from serving.snapshot_delta import MEDIA_TYPE, TAG_HEADER, HeldSnapshot, diff, encode_delta
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


NEXT = snapshot(version("acme/support@1"), version("acme/support@2"), revision=8)
HELD, HELD_NEXT = HeldSnapshot.of(SNAPSHOT), HeldSnapshot.of(NEXT)
WHOLE_REPORT = msgspec.structs.replace(REPORT, versions=HELD.proven_list)


class Controller:
    """A controller that knows deltas and short reports; its parts can be taken away."""

    def __init__(self) -> None:
        self.delta = encode_delta(diff(HELD, HELD_NEXT))
        self.tag = HELD.tag
        self.knows_short_reports = True
        self.bases: list[str | None] = []
        self.reports: list[EngineReport] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            report = decode_report(request.content)
            if report.rest_proven_in and not self.knows_short_reports:
                return httpx.Response(409)
            self.reports.append(report)
            return httpx.Response(204)
        self.bases.append(request.url.params.get("base"))
        if self.bases[-1] == HELD.tag:
            headers = {"content-type": MEDIA_TYPE, TAG_HEADER: HELD_NEXT.tag}
            return httpx.Response(200, content=self.delta, headers=headers)
        is_first = int(request.url.params["after"]) < SNAPSHOT.revision
        body = encode(SNAPSHOT if is_first else NEXT)
        return httpx.Response(200, content=body, headers={TAG_HEADER: self.tag})


async def test_what_is_held_is_not_sent_again() -> None:
    there = Controller()
    ours = link(there)

    assert await ours.pull(after=-1, wait_seconds=0) == SNAPSHOT
    assert await ours.pull(after=7, wait_seconds=0) == NEXT

    assert there.bases == [None, HELD.tag]


async def test_an_engine_that_did_not_take_over_what_was_pulled_asks_for_all_of_it() -> None:
    there = Controller()
    ours = link(there)
    await ours.pull(after=-1, wait_seconds=0)

    assert await ours.pull(after=3, wait_seconds=0) == SNAPSHOT

    assert there.bases == [None, None]


async def test_after_a_delta_that_leads_elsewhere_all_of_it_is_asked_for() -> None:
    there = Controller()
    there.delta = encode_delta(msgspec.structs.replace(diff(HELD, HELD_NEXT), tag="8-other"))
    ours = link(there)
    await ours.pull(after=-1, wait_seconds=0)

    with pytest.raises(ControllerUnreachable, match="DeltaMismatch"):
        await ours.pull(after=7, wait_seconds=0)

    assert await ours.pull(after=7, wait_seconds=0) == NEXT
    assert there.bases == [None, HELD.tag, None]


@pytest.mark.parametrize("delta", [b"{", b'{"base": 1}'])
async def test_after_a_delta_that_cannot_be_read_all_of_it_is_asked_for(delta: bytes) -> None:
    there = Controller()
    there.delta = delta
    ours = link(there)
    await ours.pull(after=-1, wait_seconds=0)

    with pytest.raises(ControllerUnreachable):
        await ours.pull(after=7, wait_seconds=0)

    assert await ours.pull(after=7, wait_seconds=0) == NEXT


@pytest.mark.parametrize("tag", ["", "7-of-a-controller-that-knows-more-fields"])
async def test_where_the_tag_is_not_agreed_on_nothing_refers_to_it(tag: str) -> None:
    there = Controller()
    there.tag = tag
    ours = link(there)

    await ours.pull(after=-1, wait_seconds=0)
    await ours.report(WHOLE_REPORT)
    await ours.pull(after=7, wait_seconds=0)

    assert there.bases == [None, None]
    assert there.reports == [WHOLE_REPORT]


async def test_a_report_leaves_out_what_goes_as_the_snapshot_wants_it() -> None:
    there = Controller()
    ours = link(there)
    await ours.pull(after=-1, wait_seconds=0)

    await ours.report(WHOLE_REPORT)

    (report,) = there.reports
    assert report.versions == []
    assert report.rest_proven_in == HELD.tag


async def test_a_controller_that_does_not_know_the_snapshot_is_told_everything() -> None:
    there = Controller()
    there.knows_short_reports = False
    ours = link(there)
    await ours.pull(after=-1, wait_seconds=0)

    await ours.report(WHOLE_REPORT)

    assert there.reports == [WHOLE_REPORT]
