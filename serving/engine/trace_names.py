"""The access trace's side table: short numbers for adapters' names, in a file that stays bounded.

A number means one name for as long as an event in the ring has it. The file is appended to; a line
that a crash has torn is cut off. Numbers that no event has any more leave with the next rewrite.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Container
from pathlib import Path


class TraceNames:
    """Used from one thread, but for `name_of`, which any thread may call."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a torn last line and everything after a broken one is cut off.

        Raises:
            OSError: the file cannot be read or made.
        """
        self._path = path
        self._names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self.n_lines = 0
        """Of the file; names that no event has any more are among them."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._read()

    def name_of(self, number: int) -> str | None:
        """The name that a number stands for; None for one that nobody gave out."""
        return self._names.get(number)

    def number_of(self, name: str) -> int:
        """This name's number; a new one is on disk before it is returned.

        Raises:
            OSError: the file cannot be written.
        """
        number = self._numbers.get(name)
        if number is None:
            number = self._next
            self._append(_line(number, name))
            self._next, self.n_lines = number + 1, self.n_lines + 1
            self._names[number] = name
            self._numbers[name] = number
        return number

    def shrink(self, used: Container[int]) -> None:
        """Rewrite the file without the numbers that are not in `used`.

        Raises:
            OSError: the file cannot be written; the old one stays.
        """
        kept = {number: name for number, name in self._names.items() if number in used}
        # The highest number stays, so that the next one is new to every event on disk.
        kept[self._next - 1] = self._names[self._next - 1]
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(b"".join(_line(*pair) for pair in kept.items()))
        temporary.replace(self._path)
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._names, self.n_lines = kept, len(kept)
        self._numbers = {name: number for number, name in kept.items()}

    def sync(self) -> None:
        """Have everything on the disk itself."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, line: bytes) -> None:
        n_bytes = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) != len(line):
            # A full disk may take half a line, which would make the next one unreadable too.
            os.ftruncate(self._descriptor, n_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _read(self) -> None:
        data = self._path.read_bytes()
        n_good_bytes = 0
        for line in data.splitlines(keepends=True):
            parsed = _parse(line)
            if parsed is None:
                os.ftruncate(self._descriptor, n_good_bytes)
                return
            number, name = parsed
            self._names[number], self._numbers[name] = name, number
            self._next, self.n_lines = max(self._next, number + 1), self.n_lines + 1
            n_good_bytes += len(line)


def _line(number: int, name: str) -> bytes:
    body = f"{number} {name}".encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> tuple[int, str] | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    number, _, name = body.decode().partition(" ")
    return int(number), name
