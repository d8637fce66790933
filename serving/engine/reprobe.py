"""When a proven version is probed again. Pure.

Only what is in CPU memory is asked: a version elsewhere has no state that could have gone bad, and
bringing it in would push another one out. The neighbour that acts is `agent`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_LEAST, _SPREAD = 0.75, 0.5
"""Pauses are 0.75 to 1.25 intervals: engines that started together do not probe together."""


@dataclass(frozen=True, slots=True)
class LastProbe:
    """A proven version's latest probe."""

    name: str
    at: float | None
    """On the engine's clock; None: its bytes were read from disk since, so it is due now."""
    n_probes: int = 0


def choose_reprobe(
    proven: Iterable[LastProbe],
    *,
    resident: Collection[str],
    engine_id: str,
    interval_seconds: float,
    now: float,
) -> str | None:
    """The version that is overdue longest; None: nothing is due, or `interval_seconds` is 0."""
    if interval_seconds <= 0:
        return None
    due = [
        (due_at(last, engine_id=engine_id, interval_seconds=interval_seconds), last.name)
        for last in proven
        if last.name in resident
    ]
    moment, name = min(due, default=(now, None))
    return name if moment <= now else None


def due_at(last: LastProbe, *, engine_id: str, interval_seconds: float) -> float:
    """When the next probe is due; minus infinity: at once.

    The pause depends on engine, version and count alone, so a plan can be told in advance.
    """
    if last.at is None:
        return float("-inf")
    seed = f"{engine_id} {last.name} {last.n_probes}".encode()
    fraction = zlib.crc32(seed) / 2**32
    return last.at + interval_seconds * (_LEAST + _SPREAD * fraction)
