"""Traces of requests for capacity tests, and the slow and obvious cache that they are held to."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate

Step = tuple[str, str]
"""(`access` | `touch` | `forget`, name)."""


def zipf_names(n_names: int, length: int, *, seed: int, exponent: float = 1.0) -> list[str]:
    """Requests whose k-th most wanted name has a chance of 1 / k^exponent; ranks are shuffled."""
    draw = random.Random(seed)
    names = [f"tenant-{index}/support@1" for index in range(n_names)]
    draw.shuffle(names)
    weights = list(accumulate(1 / (rank + 1) ** exponent for rank in range(n_names)))
    return draw.choices(names, cum_weights=weights, k=length)


def lru_misses(steps: Iterable[Step], slots: int) -> int:
    """Misses of an LRU cache with so many slots, simulated step by step.

    A touched name that was used before is the most recent one afterwards, whether it was still in
    the cache or not; it is no miss.
    """
    cache: OrderedDict[str, None] = OrderedDict()
    used: set[str] = set()
    misses = 0
    for kind, name in steps:
        if kind == "forget":
            cache.pop(name, None)
            used.discard(name)
            continue
        if kind == "touch" and name not in used:
            continue
        misses += kind == "access" and name not in cache
        used.add(name)
        cache[name] = None
        cache.move_to_end(name)
        if len(cache) > slots:
            cache.popitem(last=False)
    return misses


class NaiveStack:
    """An LRU stack as a list, most recent last. None: a free place, which a forgotten name left."""

    def __init__(self) -> None:
        self._order: list[str | None] = []

    def access(self, name: str) -> int | None:
        """Distance of a name, which is the most recent one afterwards."""
        distance = None
        if name in self._order:
            place = self._order.index(name)
            distance = len(self._order) - place
            self._order[place] = None
        if None in self._order:
            del self._order[max(at for at, kept in enumerate(self._order) if kept is None)]
        self._order.append(name)
        return distance

    def forget(self, name: str) -> None:
        """Leave a free place."""
        if name in self._order:
            self._order[self._order.index(name)] = None

    def names(self) -> list[str]:
        """Least recently used first."""
        return [name for name in self._order if name is not None]
