"""The saved snapshot and the local artifacts survive what a disk can do to them."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from adapters.errors import ArtifactNotFound
from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from serving.engine.artifacts import LocalArtifacts
from serving.engine.snapshot_file import load_snapshot, save_snapshot
from tests.builders.snapshots import key, snapshot, version


def test_a_saved_snapshot_comes_back_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "engine" / "snapshot.json"
    first = snapshot(version("acme/support@1"), keys=(key("k"),), revision=1)
    second = snapshot(revision=2)

    save_snapshot(path, first)
    assert load_snapshot(path) == first
    save_snapshot(path, second)

    assert load_snapshot(path) == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["snapshot.json"]


def test_a_crash_while_saving_leaves_the_old_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    save_snapshot(path, snapshot(revision=1))
    path.with_name("snapshot.json.new").write_text('{"revis')

    assert load_snapshot(path) == snapshot(revision=1)
    save_snapshot(path, snapshot(revision=2))
    assert load_snapshot(path) == snapshot(revision=2)


@pytest.mark.parametrize("text", ["", "{", '{"revision": "x"}', "[]"])
def test_a_spoilt_snapshot_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(text)

    assert load_snapshot(path) is None


def test_no_snapshot_is_none(tmp_path: Path) -> None:
    assert load_snapshot(tmp_path / "none.json") is None


async def stored(tmp_path: Path) -> tuple[str, str]:
    source = write_source(tmp_path / "source")
    store = ArtifactStore.from_url(f"file://{tmp_path / 'store'}")
    return str(await store.put(manifest_of_folder(source), source)), store.url


def write_source(source: Path) -> Path:
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    (source / "adapter_model.safetensors").write_text("weights")
    return source


async def test_a_fetched_artifact_is_verified_once_a_life(tmp_path: Path) -> None:
    digest, url = await stored(tmp_path)
    first = LocalArtifacts(tmp_path / "artifacts")

    await first.fetch(digest, url)
    second = LocalArtifacts(tmp_path / "artifacts")

    assert first.verified == first.on_disk == {digest}
    assert not second.verified
    assert second.on_disk == {digest}
    assert (second.path(digest) / "adapter_model.safetensors").read_text() == "weights"
    shutil.rmtree(tmp_path / "store")
    await second.fetch(digest, url)
    assert second.verified == {digest}


async def test_a_forgotten_artifact_is_gone_and_forgetting_twice_is_fine(tmp_path: Path) -> None:
    digest, url = await stored(tmp_path)
    artifacts = LocalArtifacts(tmp_path / "artifacts")
    await artifacts.fetch(digest, url)

    await artifacts.forget(digest)
    await artifacts.forget(digest)

    assert artifacts.verified == artifacts.on_disk == frozenset()
    assert not artifacts.path(digest).exists()


async def test_an_absent_artifact_is_not_verified(tmp_path: Path) -> None:
    _, url = await stored(tmp_path)
    artifacts = LocalArtifacts(tmp_path / "artifacts")

    with pytest.raises(ArtifactNotFound):
        await artifacts.fetch("sha256:" + "0" * 64, url)

    assert artifacts.verified == artifacts.on_disk == frozenset()


def test_folders_that_are_no_artifacts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / ("sha256-" + "a" * 64)).mkdir()

    assert LocalArtifacts(tmp_path).on_disk == {"sha256:" + "a" * 64}
