"""Adapters are fetched whole from folders, S3, Azure and Google, or an error says which way."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import ArchiveRefused
from adapters.manifest import CONFIG_FILE, FINGERPRINT_FILE, TENSOR_FILE, manifest_of_folder
from adapters.source import AdapterSource
from adapters.source_errors import (
    SourceError,
    SourceForbidden,
    SourceInvalid,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreachable,
)
from tests.builders.adapter_places import (
    BlobServer,
    S3Bucket,
    blob_server,
    s3_bucket,
    s3_server,
)

FAST = {"max_retries": 0, "retry_timeout": timedelta(seconds=2)}
MAX_BYTES = 1024**2
SAS = "sv=2026-01-01&sig=verysecretsignature"


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> S3Bucket:
    return s3_bucket(s3_endpoint)


@pytest.fixture
def blobs() -> Iterator[BlobServer]:
    with blob_server() as server:
        yield server


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed" / "support"
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text("{}")
    (folder / TENSOR_FILE).write_bytes(b"weights" * 1000)
    (folder / "optimizer.pt").write_bytes(b"not served")
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def local(folder: Path, *, allowed: Path) -> AdapterSource:
    return AdapterSource.open(folder.as_uri(), folders=[allowed])


def azure(blobs: BlobServer, **more: str) -> AdapterSource:
    credentials = {
        "AZURE_STORAGE_ACCOUNT_NAME": "acme",
        "AZURE_STORAGE_SAS_KEY": SAS,
        "AZURE_STORAGE_ENDPOINT": blobs.url,
        **more,
    }
    return AdapterSource.open("az://models/support", credentials=credentials, retry=FAST)


def archive_of(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for name in (CONFIG_FILE, TENSOR_FILE):
            archive.add(folder / name, arcname=name)
    return target


async def test_a_folder_in_s3_is_fetched_byte_for_byte_and_nothing_beside_it(
    bucket: S3Bucket, adapter: Path, into: Path
) -> None:
    uri = bucket.put_folder(adapter, "runs/support")

    found = await AdapterSource.open(uri, credentials=bucket.credentials).fetch(
        into, max_bytes=MAX_BYTES
    )

    assert manifest_of_folder(found.folder).digest == manifest_of_folder(adapter).digest
    assert sorted(os.listdir(into)) == [CONFIG_FILE, TENSOR_FILE]


async def test_an_archive_in_s3_is_unpacked(
    bucket: S3Bucket, adapter: Path, into: Path, tmp_path: Path
) -> None:
    archive = archive_of(adapter, tmp_path / "support.tar.gz")
    bucket.put("runs/support.tar.gz", archive.read_bytes())
    uri = f"s3://{bucket.name}/runs/support.tar.gz"

    found = await AdapterSource.open(uri, credentials=bucket.credentials).fetch(
        into, max_bytes=MAX_BYTES
    )

    assert manifest_of_folder(found.folder).digest == manifest_of_folder(adapter).digest


async def test_an_archive_that_leads_out_of_its_folder_is_refused(
    bucket: S3Bucket, into: Path
) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../adapter_config.json"))
    bucket.put("bad.tar", data.getvalue())
    uri = f"s3://{bucket.name}/bad.tar"

    with pytest.raises(ArchiveRefused):
        await AdapterSource.open(uri, credentials=bucket.credentials).fetch(
            into, max_bytes=MAX_BYTES
        )


async def test_the_mark_changes_with_the_content_and_only_with_it(
    bucket: S3Bucket, adapter: Path
) -> None:
    source = AdapterSource.open(
        bucket.put_folder(adapter, "support"), credentials=bucket.credentials
    )
    before = await source.mark()

    bucket.put("support/notes.txt", b"nothing of the adapter's")
    same = await source.mark()
    bucket.put(f"support/{FINGERPRINT_FILE}", b"{}")

    assert same == before
    assert await source.mark() != before


async def test_missing_files_and_a_missing_bucket_are_named(
    bucket: S3Bucket, adapter: Path
) -> None:
    uri = bucket.put_folder(adapter, "support")
    bucket.remove(f"support/{TENSOR_FILE}")

    with pytest.raises(SourceNotFound) as missing_file:
        await AdapterSource.open(uri, credentials=bucket.credentials).mark()
    with pytest.raises(SourceNotFound):
        await AdapterSource.open("s3://no-such-bucket/x", credentials=bucket.credentials).mark()

    assert missing_file.value.fields == {"uri": uri, "file": TENSOR_FILE}


async def test_too_many_bytes_are_refused_before_they_are_read(
    bucket: S3Bucket, adapter: Path, into: Path
) -> None:
    source = AdapterSource.open(
        bucket.put_folder(adapter, "support"), credentials=bucket.credentials
    )

    with pytest.raises(SourceTooLarge) as refused:
        await source.fetch(into, max_bytes=5000)

    assert (refused.value.fields["limit"], refused.value.fields["found"]) == (5000, 7002)
    assert os.listdir(into) == []


async def test_a_place_that_nobody_listens_at_is_unreachable_not_empty() -> None:
    credentials = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "verysecretkey",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    source = AdapterSource.open("s3://bucket/x", credentials=credentials, retry=FAST)

    with pytest.raises(SourceUnreachable) as failed:
        await source.mark()

    assert "verysecretkey" not in str(failed.value)


async def test_given_credentials_are_not_mixed_with_the_environments(
    bucket: S3Bucket, adapter: Path, blobs: BlobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = bucket.put_folder(adapter, "support")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the controller's own")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    elsewhere = {**bucket.credentials, "AWS_ENDPOINT_URL": blobs.url}

    mark = await AdapterSource.open(uri, credentials=bucket.credentials, retry=FAST).mark()
    with pytest.raises(SourceError):
        await AdapterSource.open("s3://bucket/x", credentials=elsewhere, retry=FAST).mark()

    assert mark
    signed = blobs.authorizations[0]
    assert signed is not None
    assert "x-amz-security-token" not in signed


async def test_the_workloads_own_identity_is_not_sent_to_a_sources_endpoint(
    blobs: BlobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "the controller's own")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "dGhlIGNvbnRyb2xsZXIncyBvd24=")

    with pytest.raises(SourceNotFound):
        await azure(blobs).mark()

    assert blobs.asked
    assert set(blobs.authorizations) == {None}


async def test_azure_is_read_with_a_signature_that_no_error_repeats(
    blobs: BlobServer, adapter: Path, into: Path
) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE):
        blobs.blobs[f"/models/support/{name}"] = (adapter / name).read_bytes()

    found = await azure(blobs).fetch(into, max_bytes=MAX_BYTES)
    blobs.status = 500
    with pytest.raises(SourceUnreachable) as failed:
        await azure(blobs).mark()

    assert manifest_of_folder(found.folder).digest == manifest_of_folder(adapter).digest
    assert any("verysecretsignature" in path for path in blobs.asked)
    assert "verysecretsignature" not in str(failed.value)


async def test_google_is_read_with_the_key_of_a_service_account(
    blobs: BlobServer, adapter: Path, into: Path
) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE):
        blobs.blobs[f"/models/support/{name}"] = (adapter / name).read_bytes()
    key = {
        "gcs_base_url": blobs.url, "disable_oauth": True, "client_email": "", "private_key": "",
        "private_key_id": "",
    }  # fmt: skip
    credentials = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key)}
    source = AdapterSource.open("gs://models/support", credentials=credentials, retry=FAST)

    found = await source.fetch(into, max_bytes=MAX_BYTES)

    assert manifest_of_folder(found.folder).digest == manifest_of_folder(adapter).digest


@pytest.mark.parametrize("status", [401, 403])
async def test_a_place_that_says_no_forbids(blobs: BlobServer, status: int) -> None:
    blobs.status = status

    with pytest.raises(SourceForbidden):
        await azure(blobs).mark()


async def test_a_file_that_changes_while_it_is_read_is_not_taken(
    blobs: BlobServer, adapter: Path, into: Path
) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE):
        blobs.blobs[f"/models/support/{name}"] = (adapter / name).read_bytes()
    blobs.grows = True

    with pytest.raises(SourceUnreachable):
        await azure(blobs).fetch(into, max_bytes=MAX_BYTES)


@pytest.mark.parametrize(
    ("uri", "credentials"),
    [
        ("s3://bucket/x", {"AWS_ACCESS_KEY_ID": "key"}),
        ("s3://bucket/x", {"admin-token": "a", "cluster-secret": "b"}),
        ("s3://bucket/x", {}),
        ("gs://bucket/x", {"GOOGLE_SERVICE_ACCOUNT_KEY": "no json, but verysecret"}),
        ("az://bucket/x", {"AZURE_STORAGE_ACCOUNT_NAME": "acme"}),
        ("file:///srv/x", {"AWS_ACCESS_KEY_ID": "key"}),
        (
            "s3://bucket/x",
            {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_ENDPOINT_URL": "file:///etc",
            },
        ),
    ],
)
def test_credentials_of_another_form_are_refused_and_not_repeated(
    uri: str, credentials: dict[str, Any]
) -> None:
    with pytest.raises(SourceInvalid) as refused:
        AdapterSource.open(uri, credentials=credentials)

    said = str(refused.value)
    assert "verysecret" not in said
    assert "admin-token" not in said


async def test_a_folder_below_an_allowed_one_is_fetched(adapter: Path, into: Path) -> None:
    source = local(adapter, allowed=adapter.parent)

    found = await source.fetch(into, max_bytes=MAX_BYTES)

    assert found.mark == await source.mark()
    assert manifest_of_folder(found.folder).digest == manifest_of_folder(adapter).digest


def test_a_folder_beside_the_allowed_ones_is_forbidden(adapter: Path, tmp_path: Path) -> None:
    beside = tmp_path / "allowed-not"

    with pytest.raises(SourceForbidden):
        local(adapter, allowed=beside)
    with pytest.raises(SourceForbidden):
        AdapterSource.open(adapter.as_uri())


def lead_outside(adapter: Path, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in (CONFIG_FILE, TENSOR_FILE):
        (outside / name).write_text("somebody's secret")
    if where == "file":
        (adapter / CONFIG_FILE).unlink()
        (adapter / CONFIG_FILE).symlink_to(outside / CONFIG_FILE)
    else:
        adapter.rename(tmp_path / "away")
        adapter.symlink_to(outside)


@pytest.mark.parametrize("where", ["file", "folder"])
async def test_no_link_is_followed(adapter: Path, tmp_path: Path, where: str) -> None:
    lead_outside(adapter, tmp_path, where)

    with pytest.raises(SourceForbidden):
        await local(adapter, allowed=adapter.parent).mark()


async def test_a_pipe_is_no_file_and_does_not_hold_anybody_up(adapter: Path) -> None:
    (adapter / CONFIG_FILE).unlink()
    os.mkfifo(adapter / CONFIG_FILE)

    with pytest.raises(SourceForbidden):
        await local(adapter, allowed=adapter.parent).mark()


async def test_an_allowed_folder_that_is_gone_is_unreachable_not_empty(
    adapter: Path, tmp_path: Path
) -> None:
    source = local(adapter, allowed=adapter.parent)
    os.rename(adapter.parent, tmp_path / "unmounted")

    with pytest.raises(SourceUnreachable):
        await source.mark()


async def test_a_local_folder_without_the_files_is_not_found(adapter: Path) -> None:
    (adapter / TENSOR_FILE).unlink()

    with pytest.raises(SourceNotFound):
        await local(adapter, allowed=adapter.parent).mark()
