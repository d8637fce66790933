"""The last snapshot on disk, so that a restarted engine serves without its controller."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import structlog

from serving.contract import FleetSnapshot, decode_snapshot, encode

_log = structlog.get_logger(__name__)


def save_snapshot(path: Path, snapshot: FleetSnapshot) -> None:
    """Replace the file durably; a reader finds the old or the new one. Mode 0600: key hashes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode(snapshot))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_snapshot(path: Path) -> FleetSnapshot | None:
    """The saved snapshot; None when there is none that can be read."""
    try:
        return decode_snapshot(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        _log.warning("the saved snapshot cannot be read", path=str(path), reason=str(exc))
        return None
