"""Manifest and digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from adapters.errors import ManifestInvalid
from adapters.identity import parse_digest
from adapters.manifest import (
    ARTIFACT_FILES,
    CONFIG_FILE,
    FINGERPRINT_FILE,
    TENSOR_FILE,
    ManifestFile,
    build_manifest,
    manifest_of_folder,
    parse_manifest,
)

CONFIG = ManifestFile(CONFIG_FILE, 2, "a" * 64)
TENSORS = ManifestFile(TENSOR_FILE, 9, "b" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / CONFIG_FILE).write_text("{}")
    (tmp_path / TENSOR_FILE).write_bytes(b"weights")
    return tmp_path


def test_a_folders_manifest_has_the_hash_and_size_of_each_file(folder: Path) -> None:
    manifest = manifest_of_folder(folder)

    assert manifest.files == (
        ManifestFile(CONFIG_FILE, 2, hashlib.sha256(b"{}").hexdigest()),
        ManifestFile(TENSOR_FILE, 7, hashlib.sha256(b"weights").hexdigest()),
    )
    assert manifest.size_bytes == 9
    assert parse_digest(manifest.digest) == manifest.digest


def test_the_digest_is_of_the_canonical_lines(folder: Path) -> None:
    manifest = manifest_of_folder(folder)
    lines = "".join(f"{f.name} {f.size_bytes} {f.sha256}\n" for f in manifest.files)

    assert manifest.digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def test_files_that_are_not_served_do_not_change_the_digest(folder: Path) -> None:
    before = manifest_of_folder(folder).digest
    (folder / "README.md").write_text("hello")

    assert manifest_of_folder(folder).digest == before


@pytest.mark.parametrize("name", sorted(ARTIFACT_FILES))
def test_every_byte_of_a_served_file_changes_the_digest(name: str, folder: Path) -> None:
    (folder / FINGERPRINT_FILE).write_text("[]")
    before = manifest_of_folder(folder).digest
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")

    assert manifest_of_folder(folder).digest != before


def test_a_folder_without_weights_has_no_manifest(folder: Path) -> None:
    (folder / TENSOR_FILE).unlink()

    with pytest.raises(ManifestInvalid) as refused:
        manifest_of_folder(folder)

    assert refused.value.fields["file"] == TENSOR_FILE


def test_a_file_that_is_no_file_is_refused(folder: Path) -> None:
    (folder / FINGERPRINT_FILE).mkdir()

    with pytest.raises(ManifestInvalid):
        manifest_of_folder(folder)


@pytest.mark.parametrize(
    "files",
    [
        [CONFIG], [CONFIG, TENSORS, TENSORS], [CONFIG, TENSORS, ManifestFile("x", 1, "a" * 64)],
        [CONFIG, ManifestFile(TENSOR_FILE, -1, "b" * 64)],
        [CONFIG, ManifestFile(TENSOR_FILE, 1, "B" * 64)],
    ],
)  # fmt: skip
def test_a_list_that_names_no_artifact_is_refused(files: list[ManifestFile]) -> None:
    with pytest.raises(ManifestInvalid):
        build_manifest(files)


def test_a_stored_manifest_is_read_back() -> None:
    manifest = build_manifest([TENSORS, CONFIG])

    assert parse_manifest(manifest.encode()) == manifest


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"format": 2, "files": []}', b'{"format": 1, "files": [1]}',
        b'{"format": 1, "files": [{"name": "x"}]}', b"[" * 50_000,
        b'{"format": 1, "files": [{"name": "x", "size_bytes": "y", "sha256": ""}]}',
    ],
)  # fmt: skip
def test_what_is_no_stored_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(data)
