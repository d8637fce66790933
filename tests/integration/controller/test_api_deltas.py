"""What an engine holds is not sent to it again, and what it says may refer to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from httpx import AsyncClient, Response

from serving.abridged_report import abridge
from serving.contract import FleetSnapshot, VersionState, decode_snapshot, encode
from serving.snapshot_delta import (
    MEDIA_TYPE,
    TAG_HEADER,
    HeldSnapshot,
    apply,
    decode_delta,
)
from tests.builders.controller import Controller, a_controller, a_report

PATH = "/internal/v1/snapshot"


async def held_of(engine: AsyncClient) -> HeldSnapshot:
    answer = await engine.get(PATH)
    held = HeldSnapshot.of(decode_snapshot(answer.content))
    assert answer.headers[TAG_HEADER] == held.tag
    return held


async def after(engine: AsyncClient, held: HeldSnapshot, *, base: str) -> Response:
    asked: dict[str, str | int] = {"after": held.snapshot.revision, "base": base}
    return await engine.get(PATH, params=asked)


async def whole(engine: AsyncClient) -> FleetSnapshot:
    return decode_snapshot((await engine.get(PATH)).content)


async def test_an_engine_is_sent_what_has_changed_since_its_snapshot(
    controller: Controller,
) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    await controller.make_live(acme, "acme", b"one")
    held = await held_of(engine)

    name = await controller.make_live(acme, "acme", b"two")
    answer = await after(engine, held, base=held.tag)

    assert answer.headers["content-type"] == MEDIA_TYPE
    delta = decode_delta(answer.content)
    assert [entry.name for entry in delta.versions.put] == [name]
    assert [alias.number for alias in delta.aliases.put] == [2]
    assert apply(held, delta).snapshot == await whole(engine)


async def test_who_holds_what_is_not_known_is_sent_everything(controller: Controller) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    held = await held_of(engine)

    await controller.make_live(acme, "acme", b"one")
    answer = await after(engine, held, base="0-ffff")

    assert answer.headers["content-type"] == "application/json"
    assert decode_snapshot(answer.content) == await whole(engine)


async def test_everybody_is_sent_the_same_bytes_also_several_revisions_on(
    controller: Controller,
) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    first = await held_of(engine)
    await controller.make_live(acme, "acme", b"one")
    second = await held_of(engine)
    await controller.make_live(acme, "acme", b"two")

    answers = [await after(engine, held, base=held.tag) for held in (first, second, second)]

    assert answers[1].content == answers[2].content
    for held, answer in zip((first, second), answers, strict=False):
        assert apply(held, decode_delta(answer.content)).snapshot == await whole(engine)


async def test_a_short_report_counts_as_the_whole_one(controller: Controller) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    await controller.make_live(acme, "acme", b"one")
    held = await held_of(engine)
    report = a_report(revision=held.snapshot.revision, versions=held.proven_list)

    body = encode(abridge(report, held))
    answer = await engine.post("/internal/v1/engines/engine-0/report", content=body)

    assert answer.status_code == 204
    shown = (await acme.get("/v1/tenants/acme/adapters/support/versions/1")).json()
    assert [item["state"] for item in shown["engines"]] == [VersionState.PROVEN.value]


async def test_a_controller_that_was_just_started_knows_what_is_present(
    controller: Controller, tmp_path: Path
) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    await controller.make_live(acme, "acme", b"one")
    held = await held_of(engine)
    report = abridge(a_report(revision=held.snapshot.revision, versions=held.proven_list), held)

    async with a_controller(tmp_path) as started:
        there = await started.engine_client()
        answer = await there.post("/internal/v1/engines/engine-0/report", content=encode(report))
        (seen,) = await started.context.repository.fleet.engines()

    assert answer.status_code == 204
    assert seen.report.versions == held.proven_list


async def test_a_controller_that_no_engine_talks_to_reads_what_another_one_was_told(
    controller: Controller, tmp_path: Path
) -> None:
    acme, engine = await controller.tenant("acme"), await controller.engine_client()
    async with a_controller(tmp_path) as leader:
        await controller.make_live(acme, "acme", b"one")
        held = await held_of(engine)
        report = a_report(revision=held.snapshot.revision, versions=held.proven_list)
        path = "/internal/v1/engines/engine-0/report"
        answer = await engine.post(path, content=encode(abridge(report, held)))
        assert answer.status_code == 204

        # As its own look into the registry would find, a second later.
        leader.context.notifier.publish(held.snapshot.revision)
        async with asyncio.timeout(10):
            while True:
                (seen,) = await leader.context.repository.fleet.engines()
                if not seen.is_abridged:
                    break
                await asyncio.sleep(0.01)

    assert seen.report.versions == held.proven_list


async def test_a_report_that_refers_to_what_is_not_known_is_asked_for_whole(
    controller: Controller,
) -> None:
    engine = await controller.engine_client()
    report = msgspec.structs.replace(a_report(), rest_proven_in="7-ffff", format=2)

    answer = await engine.post("/internal/v1/engines/engine-0/report", content=encode(report))

    assert answer.status_code == 409
    assert not await controller.context.repository.fleet.engines()
