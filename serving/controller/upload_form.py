"""A multipart upload, written to disk while it arrives: never more than a chunk in memory.

Knows the grammar of forms and their limits. What an adapter's files mean is `adapters.archive` and
`manifest`, a suite's `adapters.parity.suite`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapters.errors import ArtifactTooLarge
from adapters.manifest import ARTIFACT_FILES, ManifestFile
from serving.controller.errors import UploadMalformed

ARCHIVE = "archive"
SUITE = "suite"
TRAINING = "training"
_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_MAX_PARTS = 16
_MAX_TEXT_BYTES = 4096
_MAX_HEADER_BYTES = 4096
_MAX_BOUNDARY = 256


@dataclass(frozen=True, kw_only=True)
class FormKind:
    """What a form may hold."""

    text_fields: frozenset[str]
    """Parts that are kept in memory, where they come without a file name."""
    file_name: Callable[[str, str], str]
    """(field, file name) -> name on disk; raises UploadMalformed for what does not belong here."""
    check: Callable[[Collection[str]], None]
    """Whether the files make a whole; raises UploadMalformed."""
    max_bytes: Mapping[str, int] = field(default_factory=dict)
    """Largest size of single files, beside the form's own limit."""


@dataclass
class _Part:
    header_name: bytes = b""
    header_value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_bytes: int = 0
    name: str = ""
    text: bytearray = field(default_factory=bytearray)
    file: BinaryIO | None = None
    hasher: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0


class UploadForm:
    """Feed it the body's bytes in order, then `finish`. Files lie in `folder` under known names.

    All methods write to disk: call them in a thread.
    """

    def __init__(
        self, content_type: str, folder: Path, *, max_bytes: int, kind: FormKind | None = None
    ) -> None:
        """Open a form, an adapter's where no kind is given.

        Raises:
            UploadMalformed: not `multipart/form-data` with a boundary.
        """
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if media_type != b"multipart/form-data" or not 0 < len(boundary) <= _MAX_BOUNDARY:
            raise UploadMalformed(
                reason="the content type is not multipart/form-data; boundary=..."
            )
        self.files: dict[str, ManifestFile] = {}
        self.fields: dict[str, str] = {}
        self._folder, self._max_bytes, self._kind = folder, max_bytes, kind or ARTIFACT_FORM
        self._n_bytes = self._n_parts = 0
        self._is_ended = False
        self._part: _Part | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            ArtifactTooLarge: over the limit, counted here and not believed from a header.
            UploadMalformed: not the documented form.
        """
        self._n_bytes += len(chunk)
        if self._n_bytes > self._max_bytes:
            raise ArtifactTooLarge(what="upload", limit=self._max_bytes)
        try:
            self._parser.write(chunk)
        except FormParserError as exc:
            raise UploadMalformed(reason=str(exc)[:200]) from exc

    def finish(self) -> None:
        """The body is over; check that the form is whole.

        Raises:
            UploadMalformed: it ended early, or does not hold what it is for.
        """
        self._parser.finalize()
        if not self._is_ended:
            raise UploadMalformed(reason="the body ended before the form did")
        self._kind.check(self.files)

    def close(self) -> None:
        """Give back what an unfinished part holds open."""
        if self._part is not None and self._part.file is not None:
            self._part.file.close()

    def _begin_part(self) -> None:
        self._n_parts += 1
        if self._n_parts > _MAX_PARTS:
            raise UploadMalformed(reason=f"more than {_MAX_PARTS} parts")
        self._part = _Part()

    def _current(self) -> _Part:
        if self._part is None:
            raise UploadMalformed(reason="data outside of a part")
        return self._part

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        part = self._current()
        part.header_name += data[start:end]
        self._count_header(part, end - start)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        part = self._current()
        part.header_value += data[start:end]
        self._count_header(part, end - start)

    def _count_header(self, part: _Part, n_bytes: int) -> None:
        part.header_bytes += n_bytes
        if part.header_bytes > _MAX_HEADER_BYTES:
            raise UploadMalformed(reason=f"a part's headers exceed {_MAX_HEADER_BYTES} bytes")

    def _end_header(self) -> None:
        part = self._current()
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _open_part(self) -> None:
        part = self._current()
        kind, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or not name:
            raise UploadMalformed(reason="a part without a name")
        if name in self._kind.text_fields and b"filename" not in options:
            part.name = name
            return
        part.name = self._kind.file_name(
            name, options.get(b"filename", b"").decode(errors="replace")
        )
        if part.name in self.files:
            raise UploadMalformed(reason=f"{part.name} twice")
        part.file = (self._folder / part.name).open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part, piece = self._current(), memoryview(data)[start:end]
        part.size += len(piece)
        limit = self._kind.max_bytes.get(part.name)
        if limit is not None and part.size > limit:
            raise ArtifactTooLarge(what=part.name, limit=limit)
        if part.file is not None:
            part.hasher.update(piece)
            part.file.write(piece)
            return
        part.text += piece
        if part.size > _MAX_TEXT_BYTES:
            raise UploadMalformed(reason=f"field {part.name} exceeds {_MAX_TEXT_BYTES} bytes")

    def _end_part(self) -> None:
        part = self._current()
        self._part = None
        if part.file is None:
            if part.name in self.fields:
                raise UploadMalformed(reason=f"{part.name} twice")
            self.fields[part.name] = part.text.decode(errors="replace")
            return
        part.file.flush()
        os.fsync(part.file.fileno())
        part.file.close()
        self.files[part.name] = ManifestFile(part.name, part.size, part.hasher.hexdigest())

    def _end(self) -> None:
        self._is_ended = True


def _artifact_file_name(field_name: str, file_name: str) -> str:
    base = PurePosixPath(file_name.replace("\\", "/")).name
    for name in (base, field_name):
        if name in ARTIFACT_FILES:
            return name
    if field_name == ARCHIVE or base.endswith(_ARCHIVE_SUFFIXES):
        return ARCHIVE
    raise UploadMalformed(reason=f"part {(field_name or base)[:80]!r} is not a file of an adapter")


def _check_artifact(files: Collection[str]) -> None:
    if not files:
        raise UploadMalformed(reason="no file of an adapter in the form")
    if ARCHIVE in files and len(files) > 1:
        raise UploadMalformed(reason="an archive and single files in one form")


def _suite_file_name(field_name: str, _file_name: str) -> str:
    if field_name in {SUITE, TRAINING}:
        return field_name
    raise UploadMalformed(reason=f"part {field_name[:80]!r} is neither {SUITE} nor {TRAINING}")


def _check_suite(files: Collection[str]) -> None:
    if SUITE not in files:
        raise UploadMalformed(reason=f"no part {SUITE} in the form")


ARTIFACT_FORM = FormKind(
    text_fields=frozenset({SUITE, "promote"}),
    file_name=_artifact_file_name,
    check=_check_artifact,
)
"""The upload of a version: an adapter's files or one archive, which suite, how to promote."""


def suite_form(*, max_suite_bytes: int, max_training_bytes: int) -> FormKind:
    """The upload of a suite with, or without, the training set to compare it with."""
    return FormKind(
        text_fields=frozenset(),
        file_name=_suite_file_name,
        check=_check_suite,
        max_bytes={SUITE: max_suite_bytes, TRAINING: max_training_bytes},
    )
