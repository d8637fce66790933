"""One contract, two stores: a local folder, and S3 (moto's server)."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from adapters.durable import SCRATCH_PREFIX
from adapters.errors import ArtifactNotFound, DigestMismatch, InvalidName, StoreUnavailable
from adapters.manifest import CONFIG_FILE, TENSOR_FILE, Manifest, manifest_of_folder
from adapters.store import MANIFEST_NAME, ArtifactStore, folder_name, verified_folder

UNKNOWN = "sha256:" + "0" * 64
_FAST = {"max_retries": 0, "retry_timeout": timedelta(seconds=2)}


@dataclass
class Place:
    """A store's URL and options, and a way to write past the store."""

    url: str
    options: dict[str, Any]
    bucket: Any = None

    def open(self) -> ArtifactStore:
        return ArtifactStore.from_url(self.url, **self.options)

    def overwrite(self, key: str, data: bytes) -> None:
        if self.bucket is not None:
            self.bucket.put_object(Key=f"some/prefix/{key}", Body=data)
            return
        path = Path(self.url.removeprefix("file://")) / key
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, key: str) -> None:
        if self.bucket is not None:
            self.bucket.Object(f"some/prefix/{key}").delete()
        else:
            (Path(self.url.removeprefix("file://")) / key).unlink()


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def _s3_options(endpoint: str) -> dict[str, Any]:
    # No `retry_config`: moto answers 500 to some writes of one key at once, as a real store may.
    return {
        "endpoint": endpoint, "region": "us-east-1", "access_key_id": "key",
        "secret_access_key": "secret", "client_options": {"allow_http": True},
    }  # fmt: skip


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place((tmp_path / "store").as_uri(), {})
    endpoint = request.getfixturevalue("s3_endpoint")
    name = f"b-{uuid.uuid4().hex}"
    s3 = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    s3.create_bucket(Bucket=name)
    return Place(f"s3://{name}/some/prefix", _s3_options(endpoint), s3.Bucket(name))


@pytest.fixture
def store(place: Place) -> ArtifactStore:
    return place.open()


@pytest.fixture
def artifact(tmp_path: Path) -> tuple[Manifest, Path]:
    return _artifact(tmp_path / "adapter", b"weights" * 1000)


def _artifact(folder: Path, weights: bytes) -> tuple[Manifest, Path]:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text("{}")
    (folder / TENSOR_FILE).write_bytes(weights)
    return manifest_of_folder(folder), folder


def _key(digest: str, name: str) -> str:
    hexadecimal = digest.removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal}/{name}"


async def test_what_was_put_is_fetched_byte_for_byte(
    store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, folder = artifact

    digest = await store.put(manifest, folder)
    fetched = await store.fetch(digest, tmp_path / "engine")

    assert digest == manifest.digest
    assert fetched == tmp_path / "engine" / folder_name(digest)
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


async def test_a_fetched_folder_is_read_only(
    store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    fetched = await store.fetch(await store.put(*artifact), tmp_path / "engine")

    assert fetched.stat().st_mode & 0o222 == 0
    assert all(path.stat().st_mode & 0o222 == 0 for path in fetched.iterdir())


async def test_another_process_finds_what_was_put(
    place: Place, artifact: tuple[Manifest, Path]
) -> None:
    digest = await place.open().put(*artifact)
    other = place.open()

    assert await other.contains(digest)
    assert await other.manifest(digest) == artifact[0]
    assert [found async for found in other.list()] == [digest]


async def test_putting_twice_or_at_once_is_putting_once(
    store: ArtifactStore, artifact: tuple[Manifest, Path]
) -> None:
    digests = await asyncio.gather(*(store.put(*artifact) for _ in range(4)))

    assert set(digests) == {artifact[0].digest}
    assert await store.put(*artifact) == artifact[0].digest
    assert [found async for found in store.list()] == [artifact[0].digest]


async def test_a_folder_that_is_not_the_manifests_is_refused(
    store: ArtifactStore, artifact: tuple[Manifest, Path]
) -> None:
    manifest, folder = artifact
    (folder / TENSOR_FILE).write_bytes(b"other weights")

    with pytest.raises(DigestMismatch):
        await store.put(manifest, folder)

    assert not await store.contains(manifest.digest)


async def test_a_put_that_ended_before_the_manifest_left_no_artifact(
    place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path]
) -> None:
    manifest, folder = artifact
    place.overwrite(_key(manifest.digest, TENSOR_FILE), b"half of the wei")

    assert not await store.contains(manifest.digest)
    assert [found async for found in store.list()] == []

    await store.put(manifest, folder)
    assert await store.contains(manifest.digest)


async def test_a_lost_file_is_put_again(
    place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    place.remove(_key(digest, TENSOR_FILE))

    await store.put(*artifact)

    assert (await store.fetch(digest, tmp_path / "engine")).is_dir()


async def test_absent_is_told_as_absent(store: ArtifactStore, tmp_path: Path) -> None:
    assert not await store.contains(UNKNOWN)
    with pytest.raises(ArtifactNotFound):
        await store.manifest(UNKNOWN)
    with pytest.raises(ArtifactNotFound):
        await store.fetch(UNKNOWN, tmp_path / "engine")

    assert list((tmp_path / "engine").iterdir()) == []


async def test_spoilt_bytes_are_never_handed_out(
    place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    weights = (artifact[1] / TENSOR_FILE).read_bytes()

    for spoilt in (weights[:-1] + b"X", weights[:-1], weights + b"X", b""):
        place.overwrite(_key(digest, TENSOR_FILE), spoilt)
        with pytest.raises(DigestMismatch):
            await store.fetch(digest, tmp_path / "engine")
        assert list((tmp_path / "engine").iterdir()) == []


async def test_an_artifact_whose_file_is_gone_is_absent(
    place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    place.remove(_key(digest, TENSOR_FILE))

    with pytest.raises(ArtifactNotFound):
        await store.fetch(digest, tmp_path / "engine")


@pytest.mark.parametrize("kind", ["another's", "no manifest", "endless"])
async def test_a_manifest_that_is_not_the_digests_is_refused(
    kind: str, place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    other, _ = _artifact(tmp_path / "other", b"other weights")
    data = {"another's": other.encode(), "no manifest": b"{", "endless": b" " * 9_000_000}[kind]
    place.overwrite(_key(digest, MANIFEST_NAME), data)

    with pytest.raises(DigestMismatch):
        await store.manifest(digest)


async def test_a_manifest_that_the_caller_has_is_used(
    place: Place, store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    place.remove(_key(digest, MANIFEST_NAME))
    other, _ = _artifact(tmp_path / "other", b"other weights")

    with pytest.raises(DigestMismatch):
        await store.fetch(digest, tmp_path / "engine", manifest=other)
    assert (await store.fetch(digest, tmp_path / "engine", manifest=artifact[0])).is_dir()


async def test_many_fetches_at_once_agree(
    place: Place, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await place.open().put(*artifact)

    folders = await asyncio.gather(
        *(place.open().fetch(digest, tmp_path / "engine") for _ in range(8))
    )

    assert set(folders) == {tmp_path / "engine" / folder_name(digest)}
    assert manifest_of_folder(folders[0]).digest == digest
    assert [path.name for path in (tmp_path / "engine").iterdir()] == [folder_name(digest)]


async def test_a_fetched_folder_serves_without_the_store(
    store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    first = await store.fetch(digest, tmp_path / "engine")
    await store.delete(digest)

    assert await store.fetch(digest, tmp_path / "engine") == first
    assert verified_folder(digest, tmp_path / "engine") == first


async def test_a_fetched_folder_with_other_bytes_is_replaced(
    store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    folder = await store.fetch(digest, tmp_path / "engine")
    (folder / TENSOR_FILE).chmod(0o600)
    (folder / TENSOR_FILE).write_bytes(b"flipped bits")

    folder = await store.fetch(digest, tmp_path / "engine")

    assert manifest_of_folder(folder).digest == digest


async def test_what_a_killed_fetch_left_is_swept(
    store: ArtifactStore, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    digest = await store.put(*artifact)
    left = tmp_path / "engine" / f"{SCRATCH_PREFIX}dead"
    left.mkdir(parents=True)
    (left / TENSOR_FILE).write_bytes(b"half")

    await store.fetch(digest, tmp_path / "engine")

    assert not left.exists()


async def test_deleting_removes_the_bytes_and_may_be_repeated(
    store: ArtifactStore, artifact: tuple[Manifest, Path]
) -> None:
    digest = await store.put(*artifact)

    await store.delete(digest)
    await store.delete(digest)

    assert not await store.contains(digest)
    assert [found async for found in store.list()] == []
    assert await store.put(*artifact) == digest


async def test_a_digest_of_another_form_reaches_no_path(store: ArtifactStore) -> None:
    for text in ("../../etc", "sha256:../x", ""):
        with pytest.raises(InvalidName):
            await store.contains(text)


async def _assert_unavailable(
    store: ArtifactStore, artifact: tuple[Manifest, Path], parent: Path
) -> None:
    with pytest.raises(StoreUnavailable):
        await store.contains(UNKNOWN)
    with pytest.raises(StoreUnavailable):
        await store.put(*artifact)
    with pytest.raises(StoreUnavailable):
        await store.fetch(UNKNOWN, parent)
    with pytest.raises(StoreUnavailable):
        await store.delete(UNKNOWN)
    with pytest.raises(StoreUnavailable):
        _ = [digest async for digest in store.list()]


async def test_a_folder_that_vanished_is_unreachable_and_not_empty(
    artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    store = ArtifactStore.from_url((tmp_path / "store").as_uri())
    os.rename(tmp_path / "store", tmp_path / "unmounted")

    await _assert_unavailable(store, artifact, tmp_path / "engine")


async def test_a_missing_bucket_is_unreachable_and_not_empty(
    s3_endpoint: str, artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    store = ArtifactStore.from_url("s3://no-such-bucket/prefix", **_s3_options(s3_endpoint))

    await _assert_unavailable(store, artifact, tmp_path / "engine")


async def test_a_server_that_is_down_is_unreachable(
    artifact: tuple[Manifest, Path], tmp_path: Path
) -> None:
    store = ArtifactStore.from_url(
        "s3://bucket", retry_config=_FAST, **_s3_options("http://127.0.0.1:9")
    )

    await _assert_unavailable(store, artifact, tmp_path / "engine")


@pytest.mark.parametrize("url", ["ftp://host/x", "nonsense", "s3:///"])
def test_a_url_of_no_known_store_is_refused(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        ArtifactStore.from_url(url)


def test_a_local_store_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable):
        ArtifactStore.from_url((tmp_path / "file" / "store").as_uri())
