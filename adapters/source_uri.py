"""Where an adapter lies: `s3://bucket/path`, `gs://...`, `az://container/path`, `file:///folder`.

Pure. The path names a folder with the adapter's files, or one archive of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adapters.source_errors import SourceInvalid

REMOTE_SCHEMES = ("s3", "gs", "az")
MAX_URI_LENGTH = 1024

_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,254}")
# No query, fragment, escape or backslash: one way to write a path, the same for everybody.
_PATH = re.compile(r"[A-Za-z0-9/._=+@,:~ -]*")


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A checked source. `path` has no leading or trailing slash and no empty or dotted parts."""

    scheme: str
    bucket: str
    """Bucket or container; empty for `file`."""
    path: str

    @property
    def is_archive(self) -> bool:
        """Whether the path names one archive and not a folder."""
        return self.path.lower().endswith(_ARCHIVE_SUFFIXES)

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's names."""
        return tuple(self.path.split("/")) if self.path else ()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}"


def parse_source_uri(text: str) -> SourceUri:
    """Check a source's URI.

    Raises:
        SourceInvalid: too long, another scheme, no bucket, or a path that could lead elsewhere.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in (*REMOTE_SCHEMES, "file"):
        raise SourceInvalid(problem="the scheme is none of s3, gs, az, file")
    if len(text) > MAX_URI_LENGTH:
        raise SourceInvalid(problem=f"the URI has more than {MAX_URI_LENGTH} characters")
    bucket, _, path = rest.partition("/")
    if scheme == "file" and bucket:
        raise SourceInvalid(problem="a file source is written file:///folder")
    if scheme != "file" and not _BUCKET.fullmatch(bucket):
        raise SourceInvalid(problem="the bucket's name is not legal")
    if not _PATH.fullmatch(path):
        raise SourceInvalid(problem="the path has a character that is not allowed")
    parts = path.removesuffix("/").split("/") if path not in ("", "/") else []
    if any(part in ("", ".", "..") for part in parts):
        raise SourceInvalid(problem="the path has an empty or dotted part")
    if scheme == "file" and not parts:
        raise SourceInvalid(problem="a file source names a folder or an archive")
    return SourceUri(scheme, bucket, "/".join(parts))
