"""Suites over HTTP: with a training set they are compared before anything is stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.parity.contamination import ContaminationReport, exclude_leaks
from adapters.parity.suite import parse_suite
from tests.builders.controller import Controller, a_controller
from tests.builders.near_texts import a_contaminated_world
from tests.builders.problems import assert_problem

SUITE = "/v1/tenants/acme/suites/booking"


def form(suite: bytes, training: bytes | None = None) -> dict[str, tuple[str, bytes]]:
    parts = {"suite": ("suite.jsonl", suite)}
    return parts if training is None else {**parts, "training": ("train.jsonl", training)}


def leftovers(folder: Path) -> list[Path]:
    files = (folder / "uploads").rglob("*")
    return [path for path in files if path.name != ".lock" and path.is_file()]


async def stored(tenant: httpx.AsyncClient) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await tenant.get("/v1/tenants/acme/suites")).json()["suites"]
    return listed


async def test_a_suite_with_6_percent_of_its_training_set_is_refused(
    controller: Controller, tmp_path: Path
) -> None:
    tenant = await controller.tenant("acme")
    suite, training, leaked = a_contaminated_world(1000, 60, n_documents=1500)

    answer = await tenant.put(SUITE, files=form(suite, training))

    problem = assert_problem(answer, 422, "suite_contaminated")
    assert (problem["data"]["fraction"], problem["data"]["limit"]) == (0.06, 0.005)
    assert (problem["data"]["n_leaked"], problem["data"]["n_cases"]) == (60, 1000)
    assert {error["subject"] for error in problem["errors"]} < set(leaked)
    assert all("line" in error["title"] for error in problem["errors"])
    assert await stored(tenant) == []
    assert leftovers(tmp_path) == []


async def test_a_suite_with_0_3_percent_is_taken_without_its_leaked_cases(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme")
    suite, training, leaked = a_contaminated_world(1000, 3, n_documents=1500)

    answer = await tenant.put(SUITE, files=form(suite, training))

    body = answer.json()
    assert (answer.status_code, body["id"], body["n_cases"]) == (201, "acme/booking@1", 1000)
    assert body["contamination"]["fraction"] == 0.003
    assert {leak["case_id"] for leak in body["contamination"]["leaks"]} == set(leaked)
    row = await controller.context.repository.tenants.find_suite("acme", "booking")
    assert row.contamination == body["contamination"]
    report = ContaminationReport.from_json(row.contamination or {})
    rest, excluded = exclude_leaks(parse_suite(row.content.encode()), report)
    assert len(rest.cases) == 997
    assert {item.case_id for item in excluded} == set(leaked)
    assert {(item.segment, item.reason) for item in excluded} == {("booking", "contaminated")}


async def test_a_refused_suite_leaves_the_stored_one_as_it_was(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    suite, training, _leaked = a_contaminated_world(100, 10)
    await tenant.put(SUITE, content=suite)
    before = await stored(tenant)

    refused = await tenant.put(SUITE, files=form(suite, training))

    assert_problem(refused, 422, "suite_contaminated")
    assert await stored(tenant) == before


async def test_another_training_set_replaces_the_report_and_no_training_set_keeps_it(
    tmp_path: Path,
) -> None:
    async with a_controller(tmp_path, contamination_max_fraction=0.5) as controller:
        tenant = await controller.tenant("acme")
        suite, training, _leaked = a_contaminated_world(100, 2)
        other = b'{"text": "something else"}\n'

        answers = [
            await tenant.put(SUITE, files=form(suite, training)),
            await tenant.put(SUITE, files=form(suite)),
            await tenant.put(SUITE, content=suite),
            await tenant.put(SUITE, files=form(suite, other)),
        ]

        assert [answer.status_code for answer in answers] == [201, 200, 200, 200]
        assert {answer.json()["id"] for answer in answers} == {"acme/booking@1"}
        n_leaked = [answer.json()["contamination"]["n_leaked"] for answer in answers]
        assert n_leaked == [2, 2, 2, 0]
        (row,) = await stored(tenant)
        assert row["contamination"]["n_documents"] == 1
        trail = await controller.context.repository.audit.latest(subject="acme/booking@1")
        assert [item.action for item in trail] == ["compare_suite", "put_suite"]
        evidence = trail[0].evidence or {}
        assert (evidence["before"]["n_leaked"], evidence["contamination"]["n_leaked"]) == (2, 0)


async def test_the_same_training_set_again_is_answered_from_the_stored_report(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme")
    suite, training, _leaked = a_contaminated_world(1000, 1)
    first = await tenant.put(SUITE, files=form(suite, training))
    # From now on every comparison fails: only a stored report can be an answer.
    controller.app.state.contamination._timeout_seconds = 0.0

    again = await tenant.put(SUITE, files=form(suite, training))
    other = await tenant.put(SUITE, files=form(suite, training + b"\n"))

    assert (again.status_code, again.json()) == (200, first.json())
    assert_problem(other, 503, "contamination_failed")


async def test_the_api_answers_while_a_suite_is_compared(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    suite, training, _leaked = a_contaminated_world(500, 0, n_documents=1000)
    put = asyncio.create_task(tenant.put(SUITE, files=form(suite, training)))

    n_answers = 0
    while not put.done():
        assert (await tenant.get("/v1/tenants/acme/suites")).status_code == 200
        n_answers += 1

    assert put.result().status_code == 201
    assert n_answers > 5


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ({"suite": ("s", b"{")}, 422, "suite_invalid"),
        (form(b'{"id":"a","prompt":"x"}', b"{"), 422, "training_set_invalid"),
        (form(b'{"id":"a","prompt":"x"}', b"x" * 2000), 413, "artifact_too_large"),
        ({"training": ("t", b"{}")}, 400, "upload_malformed"),
        ({"suite": ("s", b"{}"), "other": ("o", b"")}, 400, "upload_malformed"),
    ],
)
async def test_a_form_that_cannot_be_used_is_refused(
    tmp_path: Path, parts: dict[str, tuple[str, bytes]], status: int, code: str
) -> None:
    async with a_controller(tmp_path, max_training_bytes=1000) as controller:
        tenant = await controller.tenant("acme")

        answer = await tenant.put(SUITE, files=parts)

        assert_problem(answer, status, code)
        assert await stored(tenant) == []
        assert leftovers(tmp_path) == []


async def test_the_cases_come_back_as_they_were_sent(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    suite, _training, _leaked = a_contaminated_world(200, 0)
    old = '{"id":"a","prompt":"größe 東京 🙂"}'.encode()
    await tenant.put(SUITE, content=old)
    await tenant.put(SUITE, files=form(suite))

    latest = await tenant.get(f"{SUITE}/cases")
    first = await tenant.get(f"{SUITE}/cases", params={"number": 1})

    assert (latest.status_code, latest.content) == (200, suite)
    assert latest.headers["content-type"].startswith("application/jsonl")
    assert latest.headers["x-loraplane-suite"] == "acme/booking@2"
    assert first.content == old
    missing = await tenant.get(f"{SUITE}/cases", params={"number": 3})
    assert_problem(missing, 404, "not_found")
    foreign = await (await controller.tenant("globex")).get(f"{SUITE}/cases")
    assert foreign.status_code in {403, 404}


async def test_a_list_names_few_leaked_cases_and_counts_all(tmp_path: Path) -> None:
    async with a_controller(tmp_path, contamination_max_fraction=1.0) as controller:
        tenant = await controller.tenant("acme")
        suite, training, _leaked = a_contaminated_world(100, 30)

        answer = await tenant.put(SUITE, files=form(suite, training))

        assert len(answer.json()["contamination"]["leaks"]) == 30
        for shown in ((await tenant.get(SUITE)).json(), (await stored(tenant))[0]):
            assert len(shown["contamination"]["leaks"]) == 20
            assert shown["contamination"]["n_leaked"] == 30


async def test_the_tenants_policy_says_how_much_may_leak(controller: Controller) -> None:
    tenant, admin = await controller.tenant("acme"), await controller.client()
    suite, training, _leaked = a_contaminated_world(100, 2)
    refused = await tenant.put(SUITE, files=form(suite, training))

    policy = {"contamination": {"max_fraction": 0.02}}
    assert (await admin.put("/v1/tenants/acme/policy", json=policy)).status_code == 201
    taken = await tenant.put(SUITE, files=form(suite, training))

    assert_problem(refused, 422, "suite_contaminated")
    assert taken.status_code == 201
    assert taken.json()["contamination"]["rules"]["max_fraction"] == 0.02
