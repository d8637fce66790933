"""Versions whose step waits for what engines say: looked at again as soon as there is news.

A pause that grows with each look finds the last proof late. News is told apart by a count of it in
this process; what engines tell another controller is found when the pause is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

_LEAST_SHARE = 0.25
"""Of the pause that passes in any case: engines that talk all the time must not make a look follow
the other. Arbitrary."""


@dataclass(frozen=True, slots=True)
class _Wait:
    n_news: int
    not_before: float


Taken = Mapping[str, _Wait]


class NewsWaits:
    """Which versions may be looked at before their pause is over. Used from one event loop."""

    def __init__(self, n_news: Callable[[], int], clock: Callable[[], float]) -> None:
        """`n_news`: how much engines have said so far; `clock`: seconds."""
        self._n_news, self._clock = n_news, clock
        self._waits: dict[str, _Wait] = {}

    @property
    def n_news(self) -> int:
        """To be read before a look, and given to `wait` after it."""
        return self._n_news()

    def wait(self, version_id: str, *, n_news: int, pause_seconds: float) -> None:
        """A look that began at `n_news` has found nothing; the next is due after the pause."""
        not_before = self._clock() + _LEAST_SHARE * pause_seconds
        self._waits[version_id] = _Wait(n_news, not_before)

    def is_ready(self) -> bool:
        """Whether there may be news of a version that waits."""
        next_at = self.next_at()
        return next_at is not None and next_at <= self._clock()

    def take(self) -> Taken:
        """Versions of which there may be news; they wait no longer."""
        now, n_news = self._clock(), self.n_news
        taken = {
            version_id: wait
            for version_id, wait in self._waits.items()
            if wait.n_news != n_news and wait.not_before <= now
        }
        for version_id in taken:
            del self._waits[version_id]
        return taken

    def put_back(self, taken: Taken, *, but_for: str) -> None:
        """Of those that were taken, one is looked at; the others wait on."""
        others = {name: wait for name, wait in taken.items() if name != but_for}
        self._waits = {**others, **self._waits}

    def next_at(self) -> float | None:
        """When the next one is ready (as the clock says); None: not without further news."""
        n_news = self.n_news
        times = [wait.not_before for wait in self._waits.values() if wait.n_news != n_news]
        return min(times, default=None)
