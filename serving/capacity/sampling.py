"""Stack distances from a sample of the names, for more names than can be followed.

Spatial sampling as in SHARDS (Waldspurger et al., "Efficient MRC construction with SHARDS", FAST
2015): a name is followed when its hash is below a threshold, and stands for `1 / rate` names. What
that gets wrong are the few names with much of the traffic, which are all in or all out; so names
that are asked for often are followed whatever their hash is, and stand for themselves.
"""

from __future__ import annotations

import hashlib

from serving.capacity.stack_distance import BLOCK_BITS, StackDistances

_TAIL, _HOT = 1, 2
_HOT_SHIFT = 32
_WEIGHTS = (0, 1, 1 << _HOT_SHIFT)
"""By mark. Both kinds are counted in one number: hot names above bit 32."""
_TAIL_MASK = (1 << _HOT_SHIFT) - 1
_HASH_BITS = 64
_HOT_USES = 4
"""Uses among a stretch of different names that make a name hot; arbitrary."""


class _TwoKinds(StackDistances):
    """A stack whose names are of two kinds, counted apart."""

    def access_as(self, name: str, mark: int) -> int | None:
        """Weights of the names above, summed; None: it was not on the stack. Then it is on top."""
        positions, marks, counts = self._positions, self._marks, self._counts
        old = positions.pop(name, None)
        above = None
        if old is not None:
            block = old >> BLOCK_BITS
            end = (block + 1) << BLOCK_BITS
            above = (
                marks.count(_TAIL, old + 1, end)
                + (marks.count(_HOT, old + 1, end) << _HOT_SHIFT)
                + sum(counts[block + 1 :])
            )
            counts[block] -= _WEIGHTS[marks[old]]
            marks[old] = 0
        at = self._next if self._next < self._capacity else self._renumber()
        self._marks[at] = mark
        self._counts[at >> BLOCK_BITS] += _WEIGHTS[mark]
        positions[name] = at
        self._next = at + 1
        return above

    def mark(self, name: str, mark: int) -> None:
        """Change a name's kind where it lies."""
        at = self._positions[name]
        self._counts[at >> BLOCK_BITS] += _WEIGHTS[mark] - _WEIGHTS[self._marks[at]]
        self._marks[at] = mark

    def forget(self, name: str) -> None:
        """Take a name off the stack, without a hole: mostly it is only followed no more."""
        if name in self._positions:
            self.mark(name, 0)
            del self._positions[name]

    def _weigh(self, start: int, end: int) -> int:
        hot = self._marks.count(_HOT, start, end)
        return self._marks.count(_TAIL, start, end) + (hot << _HOT_SHIFT)


class SampledDistances:
    """Estimated distances; at most `max_names` names are followed, half of them hot ones.

    Whether a name is hot depends on its uses alone, not on its hash, so the others that are
    followed stand for those that are not without bias.
    """

    def __init__(self, names: StackDistances, *, max_names: int, halvings: int) -> None:
        """Goes on from `names`, least recently used first, at a rate of 2^-halvings."""
        self.halvings = halvings
        self._max_names = max_names
        self._stack = _TwoKinds()
        self._hot: dict[str, None] = {}
        self._uses: dict[str, int] = {}
        for name in names:
            if self._is_sampled(name):
                self._stack.access_as(name, _TAIL)
        self._bound()

    def __len__(self) -> int:
        return len(self._stack)

    @property
    def n_names(self) -> int:
        """Estimate of the different names in use."""
        return len(self._hot) + ((len(self._stack) - len(self._hot)) << self.halvings)

    def access(self, name: str) -> tuple[int, int | None] | None:
        """None: the name is not followed. Else how often to double the request, and its distance.

        A distance of None: a first access.
        """
        weight = 0
        if name in self._hot:
            del self._hot[name]
            self._hot[name] = None
            above = self._stack.access_as(name, _HOT)
        else:
            is_followed = name in self._stack or self._is_sampled(name)
            is_hot = self._is_getting_hot(name)
            if not is_followed and not is_hot:
                return None
            above = self._stack.access_as(name, _HOT if is_hot else _TAIL)
            if is_hot:
                self._hot[name] = None
            self._bound()
            if not is_followed:
                return None
            weight = self.halvings
        if above is None:
            return weight, None
        return weight, 1 + (above >> _HOT_SHIFT) + ((above & _TAIL_MASK) << self.halvings)

    def touch(self, name: str) -> None:
        """Make a followed name the most recent one without an access."""
        if name in self._stack:
            self._stack.access_as(name, _HOT if name in self._hot else _TAIL)

    def forget(self, name: str) -> None:
        """Take a name off the stack."""
        self._stack.forget(name)
        self._hot.pop(name, None)
        self._uses.pop(name, None)

    def _is_sampled(self, name: str) -> bool:
        digest = hashlib.blake2b(name.encode(), digest_size=_HASH_BITS // 8).digest()
        return int.from_bytes(digest) >> (_HASH_BITS - self.halvings) == 0

    def _is_getting_hot(self, name: str) -> bool:
        uses = self._uses.get(name, 0) + 1
        if uses >= _HOT_USES:
            self._uses.pop(name, None)
            return True
        if len(self._uses) >= max(1, self._max_names // 4):
            self._uses.clear()
        self._uses[name] = uses
        return False

    def _bound(self) -> None:
        while len(self._hot) > self._max_names // 2:
            coldest = next(iter(self._hot))
            del self._hot[coldest]
            if self._is_sampled(coldest):
                self._stack.mark(coldest, _TAIL)
            else:
                self._stack.forget(coldest)
        while len(self._stack) > self._max_names:
            self.halvings += 1
            tail = [name for name in self._stack if name not in self._hot]
            for name in tail:
                if not self._is_sampled(name):
                    self._stack.forget(name)
