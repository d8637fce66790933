"""Which adapters are hot: counts per name over sliding windows, in bounded memory.

The engine process uses this beside its token path, so `used` costs well under a microsecond.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.capacity.segments import Windows

WINDOW_SECONDS = (60.0, 300.0, 3600.0)
_MAX_NAMES = 20_000
"""Names per segment. Arbitrary: twice the adapters that a fleet was measured with."""
_OTHERS = ""
"""Where the requests of further names go; no adapter has an empty name."""


class HotSets:
    """Requests per adapter over sliding windows, right to a segment of 5 % of the window.

    Memory: per window at most 21 tables of the names used in that segment, and at most `max_names`
    each; requests for further names count in the total alone.
    """

    def __init__(
        self, *, window_seconds: Sequence[float] = WINDOW_SECONDS, max_names: int = _MAX_NAMES
    ) -> None:
        self._max_names = max_names
        self._windows: Windows[dict[str, int]] = Windows(
            window_seconds, empty=dict, merge=self._merge
        )

    def used(self, name: str, at: float) -> None:
        """One request for `name`, `at` Unix seconds."""
        windows = self._windows
        counts = windows.open if at < windows.closes_at else windows.roll(at)
        try:
            counts[name] += 1
        except KeyError:
            self._add(counts, name, 1)

    def distinct(self, window_seconds: float, now: float) -> int:
        """Different adapters used within the window."""
        return len(self.counts(window_seconds, now))

    def covering(self, fraction: float, window_seconds: float, now: float) -> list[str]:
        """The smallest set of adapters with that share of the requests, most used first.

        Fewer than that share only where names were beyond the bound.
        """
        counts, _ = self._windows.total(window_seconds, now)
        wanted = fraction * sum(counts.values())
        counts.pop(_OTHERS, None)
        chosen = []
        reached = 0
        for name in sorted(counts, key=lambda name: (-counts[name], name)):
            if reached >= wanted:
                break
            chosen.append(name)
            reached += counts[name]
        return chosen

    def rates(self, window_seconds: float, now: float) -> dict[str, float]:
        """Requests per second of each adapter used within the window.

        Over the whole window, also of a younger process: a rate times the window is a count.
        """
        counts = self.counts(window_seconds, now)
        return {name: count / window_seconds for name, count in counts.items()}

    def counts(self, window_seconds: float, now: float) -> dict[str, int]:
        """Requests of each adapter used within the window.

        Raises:
            KeyError: not one of this object's windows.
        """
        counts, _ = self._windows.total(window_seconds, now)
        counts.pop(_OTHERS, None)
        return counts

    def _merge(self, into: dict[str, int], other: dict[str, int]) -> None:
        for name, n in other.items():
            if name in into:
                into[name] += n
            else:
                self._add(into, name, n)

    def _add(self, counts: dict[str, int], name: str, n: int) -> None:
        if len(counts) >= self._max_names:
            name = _OTHERS
        counts[name] = counts.get(name, 0) + n
