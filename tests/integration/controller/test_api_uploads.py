"""Uploads over HTTP: acknowledged bytes are safe, the same bytes are the same version."""

from __future__ import annotations

import asyncio
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.builders.controller import CONFIG, Controller, a_controller, form_of
from tests.builders.problems import assert_problem

VERSIONS = "/v1/tenants/acme/adapters/support/versions"


def leftovers(folder: Path) -> list[Path]:
    return [
        path for path in (folder / "uploads").rglob("*") if path.name != ".lock" and path.is_file()
    ]


async def test_an_upload_is_acknowledged_with_its_digest_and_kept(
    controller: Controller, tmp_path: Path
) -> None:
    tenant = await controller.tenant("acme")

    answer = await tenant.post(VERSIONS, files=form_of(), data={"promote": "auto"})

    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{VERSIONS}/1"
    assert (body["name"], body["version"], body["state"]) == ("acme/support@1", 1, "validating")
    assert body["promote"] == "auto"
    assert await controller.context.store.contains(body["digest"])
    assert leftovers(tmp_path) == []
    exposed = await (await controller.client(None)).get("/metrics")
    assert "loraplane_upload_bytes_total 0.0" not in exposed.text


async def test_the_same_bytes_are_the_same_version(controller: Controller) -> None:
    tenant = await controller.tenant("acme")

    first = await tenant.post(VERSIONS, files=form_of())
    again = await tenant.post(VERSIONS, files=form_of())
    other = await tenant.post(VERSIONS, files=form_of(b"other"))

    assert [first.status_code, again.status_code, other.status_code] == [202, 200, 202]
    assert again.json()["name"] == "acme/support@1"
    assert other.json()["name"] == "acme/support@2"


async def test_identical_uploads_at_once_make_one_version(controller: Controller) -> None:
    tenant = await controller.tenant("acme")

    answers = await asyncio.gather(*(tenant.post(VERSIONS, files=form_of()) for _ in range(6)))

    assert sorted(a.status_code for a in answers) == [200] * 5 + [202]
    assert {a.json()["name"] for a in answers} == {"acme/support@1"}


async def test_archives_and_single_files_of_the_same_content_have_one_digest(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme")
    await tenant.post(VERSIONS, files=form_of())

    for name, data in (("a.tar.gz", a_tar(CONFIG)), ("a.zip", a_zip(CONFIG))):
        answer = await tenant.post(VERSIONS, files={"archive": (name, data)})
        assert (answer.status_code, answer.json()["name"]) == (200, "acme/support@1"), answer.text


async def test_retired_bytes_may_come_back_as_a_new_version(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ["read", "push", "promote"])
    await tenant.post(VERSIONS, files=form_of())
    await tenant.post(f"{VERSIONS}/1/retire")

    again = await tenant.post(VERSIONS, files=form_of())

    assert (again.status_code, again.json()["name"]) == (202, "acme/support@2")


async def test_an_idempotency_key_answers_with_the_first_version(controller: Controller) -> None:
    tenant = await controller.tenant("acme", ["read", "push", "promote"])
    headers = {"Idempotency-Key": "build-17"}
    await tenant.post(VERSIONS, files=form_of(), headers=headers)
    await tenant.post(f"{VERSIONS}/1/retire")

    again = await tenant.post(VERSIONS, files=form_of(), headers=headers)
    other = await tenant.post(VERSIONS, files=form_of(b"other"), headers=headers)

    assert (again.status_code, again.json()["name"]) == (200, "acme/support@1")
    assert_problem(other, 409, "idempotency_conflict")
    long_key = {"Idempotency-Key": "k" * 201}
    refused = await tenant.post(VERSIONS, files=form_of(), headers=long_key)
    assert_problem(refused, 422, "request_invalid")


async def test_an_upload_over_the_limit_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with a_controller(tmp_path, max_upload_bytes=100_000) as controller:
        tenant = await controller.tenant("acme")

        answer = await tenant.post(VERSIONS, files=form_of(b"x" * 200_000))

        problem = assert_problem(answer, 413, "artifact_too_large")
        assert problem["data"]["limit"] == 100_000
        assert leftovers(tmp_path) == []


async def test_more_uploads_at_once_than_allowed_are_asked_to_come_again(tmp_path: Path) -> None:
    async with a_controller(tmp_path, max_concurrent_uploads=1) as controller:
        tenant = await controller.tenant("acme")
        async with controller.app.state.uploads.slot():
            busy = await tenant.post(VERSIONS, files=form_of())
        free = await tenant.post(VERSIONS, files=form_of())

        assert_problem(busy, 503, "uploads_busy")
        assert int(busy.headers["retry-after"]) > 0
        assert free.status_code == 202


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"adapter_config.json": CONFIG}, "manifest_invalid"),
        ({"evil.bin": ("evil.bin", b"x")}, "upload_malformed"),
        ({"archive": ("a.zip", b"not an archive")}, "archive_refused"),
        ({"archive": ("a.tar", b""), CONFIG[0]: CONFIG}, "upload_malformed"),
    ],
)
async def test_a_form_that_holds_no_artifact_is_refused(
    controller: Controller, files: dict[str, tuple[str, bytes]], code: str
) -> None:
    tenant = await controller.tenant("acme")

    answer = await tenant.post(VERSIONS, files=files)

    assert answer.json()["code"] == code
    assert answer.status_code in {400, 422}
    listed = await tenant.get("/v1/tenants/acme/adapters")
    assert listed.json() == {"adapters": []}


async def test_another_content_type_or_an_unknown_suite_or_mode_is_refused(
    controller: Controller,
) -> None:
    tenant = await controller.tenant("acme")

    assert_problem(await tenant.post(VERSIONS, content=b"x"), 400, "upload_malformed")
    suite = await tenant.post(VERSIONS, files=form_of(), data={"suite": "nothing"})
    assert_problem(suite, 404, "not_found")
    mode = await tenant.post(VERSIONS, files=form_of(), data={"promote": "perhaps"})
    assert_problem(mode, 422, "request_invalid")
    name = await tenant.post("/v1/tenants/acme/adapters/text/versions", files=form_of())
    assert_problem(name, 422, "reserved_name")


async def test_a_version_remembers_the_content_of_its_suite(controller: Controller) -> None:
    tenant = await controller.tenant("acme")
    suite = "/v1/tenants/acme/suites/refunds"
    await tenant.put(suite, content=b'{"id":"a","prompt":"x"}')
    pushed = await tenant.post(VERSIONS, files=form_of(), data={"suite": "refunds"})
    await tenant.put(suite, content=b'{"id":"a","prompt":"y"}')

    assert pushed.json()["suite"] == "acme/refunds@1"
    assert (await tenant.get(f"{VERSIONS}/1")).json()["suite"] == "acme/refunds@1"


async def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_kept(
    tmp_path: Path,
) -> None:
    dead = tmp_path / "uploads" / "dead"
    (dead / "part").mkdir(parents=True)
    (dead / ".lock").touch()

    async with a_controller(tmp_path) as one:
        async with one.app.state.uploads.slot() as folder, a_controller(tmp_path):
            assert folder.exists()
        assert not dead.exists()


def a_tar(config: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in (config, ("adapter_model.safetensors", b"weights")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def a_zip(config: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(*config)
        archive.writestr("adapter_model.safetensors", b"weights")
    return buffer.getvalue()
