"""Curves for numbers of engines that are not there: tenants spread by consistent hashing.

Jump consistent hash (Lamping and Veach, 2014): balanced, no table, and with one more engine only
the tenants that move to it move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from serving.capacity.curve import Curve, merge_curves
from serving.capacity.locality import MAX_NAMES, WINDOW_SECONDS, Locality

_MAX_TENANTS = 100_000
_MASK = (1 << 64) - 1
_MULTIPLIER = 2862933555777941757
"""Of the 64-bit linear congruential generator that the paper uses."""


def engine_of_tenant(tenant: str, n_engines: int) -> int:
    """The engine, from 0, that answers for a tenant; the same in every process.

    Raises:
        ValueError: no engines.
    """
    if n_engines < 1:
        raise ValueError(f"{n_engines} engines")
    key = int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=8).digest())
    engine, following = -1, 0
    while following < n_engines:
        engine = following
        key = (key * _MULTIPLIER + 1) & _MASK
        following = int((engine + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return engine


class FleetLocality:
    """A `Locality` for each engine of each hypothetical fleet; the tenant is left of the `/`.

    An access costs as many stack accesses as there are `engine_counts`.
    """

    def __init__(
        self,
        engine_counts: Sequence[int],
        *,
        max_names: int = MAX_NAMES,
        window_seconds: Sequence[float] = WINDOW_SECONDS,
    ) -> None:
        self.engine_counts = tuple(engine_counts)
        self._engines = {
            count: [
                Locality(max_names=max(1, max_names // count), window_seconds=window_seconds)
                for _ in range(count)
            ]
            for count in self.engine_counts
        }
        self._of_tenant: dict[str, list[Locality]] = {}

    def access(self, name: str, at: float) -> None:
        """A request for `name` anywhere in the fleet."""
        for locality in self._homes(name):
            locality.access(name, at)

    def occupy(self, name: str) -> None:
        """The name was brought in by nobody who shall be counted."""
        for locality in self._homes(name):
            locality.occupy(name)

    def touch(self, name: str, at: float) -> None:
        """The name was in use: recency alone."""
        for locality in self._homes(name):
            locality.touch(name, at)

    def forget(self, name: str) -> None:
        """A version that is gone."""
        for locality in self._homes(name):
            locality.forget(name)

    def curve(self, n_engines: int, window_seconds: float, now: float) -> Curve:
        """All engines' misses together, by the slots that each of them has.

        Raises:
            KeyError: not one of this object's engine counts or windows.
        """
        return merge_curves(
            [locality.curve(window_seconds, now) for locality in self._engines[n_engines]]
        )

    def _homes(self, name: str) -> list[Locality]:
        tenant = name.partition("/")[0]
        homes = self._of_tenant.get(tenant)
        if homes is None:
            if len(self._of_tenant) >= _MAX_TENANTS:
                self._of_tenant.clear()
            homes = [
                engines[engine_of_tenant(tenant, count)] for count, engines in self._engines.items()
            ]
            self._of_tenant[tenant] = homes
        return homes
