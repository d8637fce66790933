"""Exact LRU stack distances, online: one pass that answers for every cache size at once.

Mattson et al., "Evaluation techniques for storage hierarchies" (IBM Systems Journal 9, 1970): an
access hits in an LRU cache of `c` places exactly when at most `c - 1` other names were used since
the name's last use, so its stack distance is at most `c`.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace

_FIRST_CAPACITY = 1024
BLOCK_BITS = 8
"""256 positions a block: of 64 to 4,096 the fastest at 10,000 names (docs/capacity.md)."""
_BLOCK = 1 << BLOCK_BITS


class StackDistances:
    """An LRU stack of names that says how deep each accessed one lay.

    Every use gets the next position in a row of marks, and the name's former mark is wiped: the
    distance is 1 plus the marks behind the former position. Marks are counted byte by byte inside
    one block and by sums over the later blocks. A full row is numbered anew, with as much room
    again as there are names, so that costs a constant share of each access.

    A forgotten name leaves a hole, a place that is free in every cache which held the name. The
    next name that comes from below a hole, or is new, fills it and pushes nobody out.
    """

    def __init__(self) -> None:
        # In order of last use, because a used name is taken out and put in again.
        self._positions: dict[str, int] = {}
        # Negative positions, so that the first one is the topmost hole.
        self._holes: list[int] = []
        self._next = 0
        self._clear(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[str]:
        """Names, least recently used first."""
        return iter(self._positions)

    def access(self, name: str) -> int | None:
        """Distance of the name, which is the most recent one afterwards.

        1: it was the most recent one already. None: a first access, a miss at every size.
        """
        positions = self._positions
        old = positions.pop(name, None)
        distance = None
        if old is not None:
            marks, counts = self._marks, self._counts
            block = old >> BLOCK_BITS
            distance = marks.count(1, old, (block + 1) << BLOCK_BITS) + sum(counts[block + 1 :])
        if self._holes:
            old = self._fill_hole(old)
        if old is not None:
            self._marks[old] = 0
            self._counts[old >> BLOCK_BITS] -= 1
        at = self._next
        if at == self._capacity:
            at = self._renumber()
        self._marks[at] = 1
        self._counts[at >> BLOCK_BITS] += 1
        positions[name] = at
        self._next = at + 1
        return distance

    def touch(self, name: str) -> None:
        """Make a name the most recent one without an access. One not on the stack stays off it."""
        if name in self._positions:
            self.access(name)

    def forget(self, name: str) -> None:
        """Take a name off the stack; what was said of earlier accesses stays said."""
        old = self._positions.pop(name, None)
        if old is not None:
            heappush(self._holes, -old)

    def _fill_hole(self, old: int | None) -> int | None:
        """The mark to wipe for a name that comes from `old`, or from nowhere."""
        if old is None:
            return -heappop(self._holes)
        topmost = -self._holes[0]
        if topmost < old:
            return old
        # What held the name already still has its free place, where the name was.
        heapreplace(self._holes, -old)
        return topmost

    def _renumber(self) -> int:
        # Names, holes and marks are in the same order, so the marks only have to close up.
        marks = self._marks.translate(None, b"\x00")
        holes = sorted(-hole for hole in self._holes)
        self._holes = []
        position = 0
        for name, old in self._positions.items():
            while len(self._holes) < len(holes) and holes[len(self._holes)] < old:
                self._holes.append(-position)
                position += 1
            self._positions[name] = position
            position += 1
        for _ in range(len(holes) - len(self._holes)):
            self._holes.append(-position)
            position += 1
        self._holes.reverse()
        self._clear(max(_FIRST_CAPACITY, 2 * (position + 1)))
        self._marks[:position] = marks
        for block in range((position >> BLOCK_BITS) + 1):
            start = block << BLOCK_BITS
            self._counts[block] = self._weigh(start, start + _BLOCK)
        return position

    def _weigh(self, start: int, end: int) -> int:
        return self._marks.count(1, start, end)

    def _clear(self, capacity: int) -> None:
        n_blocks = (capacity >> BLOCK_BITS) + 1
        self._capacity = capacity
        self._marks = bytearray(n_blocks << BLOCK_BITS)
        self._counts = [0] * n_blocks
