"""Which versions a tenant uses together: remembered by bursts, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

BURST_GAP_SECONDS = 60.0
"""A tenant that was quiet for so long begins a new burst; arbitrary, a person's pause."""
_KEPT_BURSTS = 8
_MAX_TENANTS = 10_000
_MAX_NAMES = 16
"""Versions remembered per burst."""


@dataclass(slots=True)
class _Tenant:
    last_at: float
    current: set[str] = field(default_factory=set)
    past: deque[frozenset[str]] = field(default_factory=lambda: deque(maxlen=_KEPT_BURSTS))


class Bursts:
    """The last 8 bursts of each tenant: which versions it used in them.

    Memory: 10,000 tenants, the longest unused goes first; 16 versions a burst.
    """

    def __init__(self, *, gap_seconds: float = BURST_GAP_SECONDS) -> None:
        self._gap_seconds = gap_seconds
        self._tenants: dict[str, _Tenant] = {}

    def used(self, name: str, at: float) -> None:
        """One request for `acme/support@3`, `at` Unix seconds."""
        tenant = name.partition("/")[0]
        known = self._tenants.pop(tenant, None)
        if known is None:
            known = _Tenant(at)
            if len(self._tenants) >= _MAX_TENANTS:
                del self._tenants[next(iter(self._tenants))]
        self._tenants[tenant] = known
        if at - known.last_at > self._gap_seconds:
            known.past.append(frozenset(known.current))
            known.current = set()
        if len(known.current) < _MAX_NAMES:
            known.current.add(name)
        known.last_at = max(known.last_at, at)

    def forget(self, name: str) -> None:
        """A version that is gone."""
        known = self._tenants.get(name.partition("/")[0])
        if known is not None:
            known.current.discard(name)
            known.past = deque((burst - {name} for burst in known.past), maxlen=_KEPT_BURSTS)

    def together(self, *, min_share: float, min_bursts: int) -> dict[str, tuple[str, ...]]:
        """By tenant, the versions in at least that share of its finished bursts, oftenest first.

        Tenants with fewer than two such versions, or with fewer bursts, are left out.
        """
        found = {}
        for tenant, known in self._tenants.items():
            if len(known.past) < min_bursts:
                continue
            counts = Counter(name for burst in known.past for name in burst)
            names = [n for n, count in counts.items() if count >= min_share * len(known.past)]
            if len(names) > 1:
                found[tenant] = tuple(sorted(names, key=lambda name: (-counts[name], name)))
        return found
