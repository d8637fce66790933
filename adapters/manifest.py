"""What an artifact is made of: its files' names, sizes and hashes, and the digest of them all.

The digest does not depend on the order in which files are listed, nor on any folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapters.errors import ManifestInvalid
from adapters.identity import Digest

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
FINGERPRINT_FILE = "loraplane_fingerprint.json"

REQUIRED_FILES = frozenset({CONFIG_FILE, TENSOR_FILE})
ARTIFACT_FILES = frozenset({CONFIG_FILE, TENSOR_FILE, FINGERPRINT_FILE})
"""All files that an artifact may have; whatever else lies in an adapter's folder is not served."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
TOKENIZER_FILES = ("tokenizer.json", "chat_template.jinja")

MAX_MANIFEST_BYTES = 64 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1024**2


@dataclass(frozen=True, slots=True, order=True)
class ManifestFile:
    """One file; `sha256` is bare hex."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one artifact, sorted by name. Made by `build_manifest`, which checks them."""

    files: tuple[ManifestFile, ...]

    @property
    def digest(self) -> Digest:
        """sha256 over the sorted lines `name size sha256`."""
        lines = (f"{file.name} {file.size_bytes} {file.sha256}\n" for file in self.files)
        return Digest("sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest())

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The stored form; `parse_manifest` reads it."""
        return {
            "format": 1,
            "files": [
                {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
                for file in self.files
            ],
        }

    def encode(self) -> bytes:
        """Stored bytes, the same for the same files."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()


def build_manifest(files: Iterable[ManifestFile]) -> Manifest:
    """A manifest of these files, in any order.

    Raises:
        ManifestInvalid: a name that no artifact has, one twice, a missing required file, or a size
            or hash that is none.
    """
    ordered = tuple(sorted(files))
    names = [file.name for file in ordered]
    for file in ordered:
        if file.name not in ARTIFACT_FILES:
            raise ManifestInvalid(problem="not a file of an artifact", file=file.name[:120])
        if file.size_bytes < 0 or not _HEX.fullmatch(file.sha256):
            raise ManifestInvalid(problem="size or hash is not one", file=file.name)
    if len(set(names)) != len(names):
        raise ManifestInvalid(problem="a file is listed twice")
    for name in sorted(REQUIRED_FILES - set(names)):
        raise ManifestInvalid(problem="a required file is missing", file=name)
    return Manifest(ordered)


def parse_manifest(data: bytes) -> Manifest:
    """Read stored bytes; the inverse of `Manifest.encode`.

    Raises:
        ManifestInvalid: not a manifest, or of another format.
    """
    try:
        raw = json.loads(data[:MAX_MANIFEST_BYTES])
        if raw["format"] != 1:
            raise ManifestInvalid(problem=f"format {raw['format']!r} is not 1")
        files = [
            ManifestFile(str(item["name"]), int(item["size_bytes"]), str(item["sha256"]))
            for item in raw["files"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ManifestInvalid(problem="not the JSON of a manifest") from exc
    return build_manifest(files)


def manifest_of_folder(folder: Path) -> Manifest:
    """Hash the artifact's files of a folder; other files in it don't count.

    Raises:
        ManifestInvalid: a required file is missing, or an artifact's file is not a regular file.
        OSError: a file cannot be read.
    """
    files = []
    for name in sorted(ARTIFACT_FILES):
        path = folder / name
        if path.is_file():
            size, digest = hash_file(path)
            files.append(ManifestFile(name, size, digest))
        elif path.exists() or path.is_symlink():
            raise ManifestInvalid(problem="not a regular file", file=name)
    return build_manifest(files)


def hash_file(path: Path) -> tuple[int, str]:
    """(size in bytes, sha256 in hex), reading 1 MiB at a time."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_stream(stream: BinaryIO) -> tuple[int, str]:
    """(size in bytes, sha256 in hex) of all that is left in a stream."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
