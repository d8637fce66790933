"""Sliding windows as sums of segments of time: bounded memory, no event is kept by itself.

Each window is cut into `SEGMENTS` stretches. What happens goes into one open segment; when its time
is over it is added to every window's ring, and a ring drops what is older than its window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

SEGMENTS = 20
"""A window is right to one segment, 5 % of it: what is partly inside counts as inside."""

T = TypeVar("T")


@dataclass(slots=True)
class _Stretch(Generic[T]):
    index: int
    kept: T


class Windows(Generic[T]):
    """Sums of `T` over sliding windows. `merge(into, other)` adds the second to the first.

    Time never goes back: what is reported late counts at the time of the latest report.
    """

    def __init__(
        self, lengths: Sequence[float], *, empty: Callable[[], T], merge: Callable[[T, T], None]
    ) -> None:
        self.lengths = tuple(sorted(lengths))
        self._empty, self._merge = empty, merge
        self._rings: dict[float, deque[_Stretch[T]]] = {length: deque() for length in self.lengths}
        self._fine = self.lengths[0] / SEGMENTS
        self._start = 0.0
        self.first_at: float | None = None
        """When the first thing ever happened."""
        self.open: T = empty()
        """Where the present belongs; valid until `closes_at`."""
        self.closes_at = float("-inf")

    def roll(self, at: float) -> T:
        """Close the open segment if its time is over at `at`; gives the open one."""
        if at < self.closes_at:
            return self.open
        if self.first_at is None:
            self.first_at = at
        else:
            self._close()
        index = int(at // self._fine)
        self._start, self.closes_at = index * self._fine, (index + 1) * self._fine
        self.open = self._empty()
        return self.open

    def total(self, length: float, now: float) -> tuple[T, float]:
        """Sum over the last `length` seconds, and the seconds that it covers.

        Raises:
            KeyError: not one of this object's windows.
        """
        total = self._empty()
        step = length / SEGMENTS
        first = int((now - length) // step)
        for stretch in self._rings[length]:
            if stretch.index >= first:
                self._merge(total, stretch.kept)
        if self.closes_at > now - length:
            self._merge(total, self.open)
        if self.first_at is None:
            return total, 0.0
        return total, max(0.0, now - max(self.first_at, first * step))

    def _close(self) -> None:
        for length, ring in self._rings.items():
            step = length / SEGMENTS
            # Half a fine segment on: the start itself may be a rounding error too early.
            index = int((self._start + self._fine / 2) // step)
            if not ring or ring[-1].index != index:
                ring.append(_Stretch(index, self._empty()))
            self._merge(ring[-1].kept, self.open)
            while (ring[0].index + 1) * step <= self.closes_at - length:
                ring.popleft()
