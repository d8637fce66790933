"""Upload archives (tar, tar.gz, zip) -> the artifact's files in a folder. Trusts nothing in them.

Everything is refused that could leave the folder, fill the disk or the memory, or run code when it
is opened. Files that adapters commonly carry, but that are not served, are left out and named.
"""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from adapters.bounded_stream import BoundedStream
from adapters.errors import ArchiveRefused, ArtifactTooLarge
from adapters.limits import ArchiveLimits
from adapters.manifest import ARTIFACT_FILES, PICKLE_SUFFIXES, REQUIRED_FILES

_MAX_NAME_LENGTH = 255
_CHUNK_BYTES = 1024**2
_RATIO_FROM_BYTES = 16 * 1024**2
"""Below this nobody is harmed by any ratio, and small text may be repetitive."""
_MAX_DIRECTORY_BYTES = 1024**2
"""Bytes of a zip's member list, which zipfile reads at once."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: names of the artifact's files, and of harmless files left out."""

    files: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size_bytes: int
    is_folder: bool
    stream: BinaryIO | None


def is_archive(path: Path) -> bool:
    """Whether the file's first bytes are those of a form that `unpack` reads."""
    return _form(path) is not None


def unpack(path: Path, into: Path, limits: ArchiveLimits) -> Unpacked:
    """Unpack the artifact's files of an archive into the existing folder `into`.

    One folder around all files is allowed. On an error `into` may hold a part of them.

    Raises:
        ArchiveRefused: no archive, damaged, or unsafe; `reason` is a stable slug.
        ArtifactTooLarge: over a limit.
    """
    form = _form(path)
    if form is None:
        raise ArchiveRefused(reason="not_an_archive")
    members = {"zip": _zip_members, "gzip": _gzip_members, "tar": _tar_members}[form]
    try:
        return _Unpacking(into, limits, packed_bytes=path.stat().st_size).run(members(path, limits))
    except (
        tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError,
        struct.error, NotImplementedError, RuntimeError, ValueError, OverflowError,
    ) as exc:  # fmt: skip
        # What these libraries raise on damaged or encrypted input.
        raise ArchiveRefused(reason="damaged") from exc


def _form(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "tar" if head[257:262] == b"ustar" else None


class _Unpacking:
    """One run: counts members and bytes, and remembers names."""

    def __init__(self, into: Path, limits: ArchiveLimits, *, packed_bytes: int) -> None:
        self._into = into
        self._limits = limits
        self._packed_bytes = max(1, packed_bytes)
        self._n_members = 0
        self._n_bytes = 0
        self._folders: set[str] = set()
        self._seen: set[str] = set()
        self._ignored: list[str] = []

    def run(self, members: Iterator[_Member]) -> Unpacked:
        for member in members:
            self._take(member)
        files = tuple(sorted(self._seen & ARTIFACT_FILES))
        for name in sorted(REQUIRED_FILES - set(files)):
            raise ArchiveRefused(reason="file_missing", member=name)
        return Unpacked(files, tuple(sorted(self._ignored)))

    def _take(self, member: _Member) -> None:
        self._count(member)
        parts = split_member_name(member.name)
        if member.is_folder:
            return
        name = parts[-1]
        if name.startswith(".") or parts[0] == "__MACOSX":
            self._ignored.append(member.name)
            return
        self._folders.add("/".join(parts[:-1]))
        if len(parts) > 2 or len(self._folders) > 1:
            raise ArchiveRefused(reason="nested_folders", member=member.name)
        if name.lower().endswith(PICKLE_SUFFIXES):
            raise ArchiveRefused(reason="pickle", member=member.name)
        if name in self._seen:
            raise ArchiveRefused(reason="duplicate_member", member=member.name)
        self._seen.add(name)
        if name not in ARTIFACT_FILES or member.stream is None:
            self._ignored.append(name)
            return
        self._write(member.stream, name, member.size_bytes)

    def _count(self, member: _Member) -> None:
        self._n_members += 1
        if self._n_members > self._limits.max_members:
            raise ArtifactTooLarge(what="archive members", limit=self._limits.max_members)
        self._n_bytes += member.size_bytes
        if self._n_bytes > self._limits.max_total_bytes:
            raise ArtifactTooLarge(
                what="unpacked bytes", limit=self._limits.max_total_bytes, found=self._n_bytes
            )
        ratio = self._n_bytes / self._packed_bytes
        if self._n_bytes > _RATIO_FROM_BYTES and ratio > self._limits.max_ratio:
            raise ArchiveRefused(reason="compression_ratio", member=member.name)

    def _write(self, stream: BinaryIO, name: str, size_bytes: int) -> None:
        written = 0
        with (self._into / name).open("xb") as out:
            while chunk := stream.read(_CHUNK_BYTES):
                written += len(chunk)
                if written > size_bytes:
                    break
                out.write(chunk)
        if written != size_bytes:
            raise ArchiveRefused(reason="size_lies", member=name)


def split_member_name(name: str) -> tuple[str, ...]:
    """Parts of a member's path.

    Raises:
        ArchiveRefused: absolute, leading out of the folder, or not printable.
    """
    shown = name[:120]
    if not name or len(name) > _MAX_NAME_LENGTH or not name.isprintable():
        raise ArchiveRefused(reason="name_not_printable", member=shown)
    # A backslash or a drive letter means something on other systems, and nothing good here.
    if name.startswith("/") or "\\" in name or ":" in name:
        raise ArchiveRefused(reason="absolute_or_foreign_path", member=shown)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ArchiveRefused(reason="path_traversal", member=shown)
    return parts or (".",)


def _zip_members(path: Path, limits: ArchiveLimits) -> Iterator[_Member]:
    _check_zip_directory(path, limits)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveRefused(reason="link_or_device", member=info.filename[:120])
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveRefused(reason="compression_method", member=info.filename[:120])
            if info.is_dir():
                yield _Member(info.filename, 0, is_folder=True, stream=None)
                continue
            with archive.open(info) as stream:
                yield _Member(
                    info.filename, info.file_size, is_folder=False, stream=cast("BinaryIO", stream)
                )


def _check_zip_directory(path: Path, limits: ArchiveLimits) -> None:
    """Look at the end record first: zipfile reads the whole member list into memory."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65_557))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise ArchiveRefused(reason="damaged")
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        # Its own end record would overrule the sizes that are checked here.
        raise ArchiveRefused(reason="zip64")
    n_members, directory_bytes = struct.unpack("<HI", tail[at + 10 : at + 16])
    if n_members > limits.max_members:
        raise ArtifactTooLarge(what="archive members", limit=limits.max_members, found=n_members)
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise ArtifactTooLarge(what="zip directory bytes", limit=_MAX_DIRECTORY_BYTES)


def _gzip_members(path: Path, limits: ArchiveLimits) -> Iterator[_Member]:
    with gzip.open(path, "rb") as stream:
        yield from _read_tar(cast("IO[bytes]", stream), path, limits)


def _tar_members(path: Path, limits: ArchiveLimits) -> Iterator[_Member]:
    with path.open("rb") as stream:
        yield from _read_tar(stream, path, limits)


def _read_tar(stream: IO[bytes], path: Path, limits: ArchiveLimits) -> Iterator[_Member]:
    # Headers and padding come on top of the members' own bytes.
    bound = limits.max_total_bytes + 4096 * limits.max_members + 1024**2
    ratio_bound = max(_RATIO_FROM_BYTES, int(limits.max_ratio * path.stat().st_size))
    bounded = BoundedStream(stream, max_position=min(bound, ratio_bound + 1024**2))
    with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r:") as archive:
        for info in archive:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise ArchiveRefused(reason="link_or_device", member=info.name[:120])
            if info.isdir():
                yield _Member(info.name, 0, is_folder=True, stream=None)
                continue
            content = archive.extractfile(info)
            yield _Member(info.name, info.size, is_folder=False, stream=cast("BinaryIO", content))
