"""Local files that survive kill -9 and power loss, and scratch folders that don't pile up.

A write is done when the file is synced, renamed into place, and the folder that names it is synced.
A scratch folder is held by a kernel lock, so one whose owner died is recognised and removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH_PREFIX = ".incoming-"


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Force a folder's entries (names, renames, removals) to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, *, below: Path) -> None:
    """Make `folder` and its parents under `below`, each one synced into its parent.

    Those that exist are synced too: whoever made them may not have come that far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while folder != below:
        folder = folder.parent
        sync_folder(folder)


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced file or folder within one file system, durably.

    Raises:
        OSError: among others when `target` is a folder that is not empty.
    """
    source.rename(target)
    sync_folder(target.parent)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new private folder in `parent`, removed afterwards unless it was renamed away."""
    path, lock = _make_locked(parent)
    try:
        yield path
    finally:
        remove_folder(path)
        os.close(lock)


def _make_locked(parent: Path) -> tuple[Path, int]:
    while True:
        path = parent / f"{SCRATCH_PREFIX}{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        lock = _lock(path, fcntl.LOCK_EX)
        if lock is not None:
            return path, lock


def _lock(path: Path, how: int) -> int | None:
    """A descriptor that holds the folder's lock; None when it is gone, or held by another."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, how)
        # A sweeper may have taken the lock, and the folder, between its making and its locking.
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def sweep_scratch(parent: Path) -> int:
    """Remove the scratch folders whose owners are dead; returns how many."""
    n_removed = 0
    for path in parent.glob(f"{SCRATCH_PREFIX}*"):
        lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            remove_folder(path)
            os.close(lock)
            n_removed += 1
    return n_removed


def remove_folder(path: Path) -> None:
    """Remove a folder with its files, read-only ones too; absent is fine."""
    if path.is_dir():
        # Without write permission on a folder its entries cannot be removed.
        path.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
