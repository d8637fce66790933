"""What one request has taken; the engine may work on it in several parts (prompts, samples)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.engine.trace import Usage

_NOTHING = Usage()
_Read = Callable[[], Usage]


class UsageMeter:
    """Reads the parts when it is asked."""

    __slots__ = ("_ended", "_open")

    def __init__(self) -> None:
        self._open: dict[str, _Read] = {}
        self._ended: tuple[_Read, ...] = ()

    def open(self, part: str, read: _Read) -> None:
        """The engine has begun with a part; `read` tells what it has taken so far."""
        self._open[part] = read

    def close(self, part: str) -> bool:
        """The engine is done with a part, and takes nothing more for it.

        False: it was ended before, or counted as aborted and forgotten.
        """
        read = self._open.pop(part, None)
        if read is None:
            return False
        self._ended = (*self._ended, read)
        return True

    @property
    def is_open(self) -> bool:
        """Whether there are parts that the engine did not end."""
        return bool(self._open)

    def aborted(self) -> Usage:
        """What the parts have taken that the engine did not end."""
        return _sum(self._open.values())

    def total(self) -> Usage:
        """What all parts have taken so far, those that were aborted included."""
        return _sum((*self._ended, *self._open.values()))

    def forget(self) -> None:
        """Let go of all parts, which may know this meter themselves."""
        self._open, self._ended = {}, ()


def _sum(readers: Iterable[_Read]) -> Usage:
    return sum((read() for read in readers), _NOTHING)
