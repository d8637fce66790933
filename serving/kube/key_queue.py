"""A queue of keys: each once, never two workers at one, and a pause of its own after failures."""

from __future__ import annotations

import asyncio
from collections import deque

_FIRST_PAUSE_SECONDS = 1.0
_MAX_DOUBLINGS = 20


class KeyQueue:
    """Holds no more than one entry per key, so it is as bounded as the keys are."""

    def __init__(self, *, max_pause_seconds: float = 300.0) -> None:
        """`max_pause_seconds`: the longest pause after failures of one key."""
        self._max_pause_seconds = max_pause_seconds
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._filled = asyncio.Event()

    def add(self, key: str) -> None:
        """Have somebody work at `key`; once more afterwards where somebody does right now."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._known:
            self._known.add(key)
            self._waiting.append(key)
            self._filled.set()

    def add_later(self, key: str, seconds: float) -> None:
        """`add` after a pause; an earlier time that is set already stays."""
        when = asyncio.get_running_loop().time() + max(seconds, 0.0)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self._ring, key)

    async def take(self) -> str:
        """The next key; `done` must follow."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = self._waiting.popleft()
        self._known.discard(key)
        self._running.add(key)
        return key

    def done(self, key: str) -> None:
        """Nobody works at `key` any more."""
        self._running.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def pause_seconds(self, key: str) -> float:
        """How long to leave a key alone that has failed once more: 1, 2, 4 ... seconds."""
        tries = self._failures.get(key, 0)
        self._failures[key] = tries + 1
        return min(
            _FIRST_PAUSE_SECONDS * 2.0 ** min(tries, _MAX_DOUBLINGS), self._max_pause_seconds
        )

    def forget_failures(self, key: str) -> None:
        """It went well, or it is another matter by now."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ring(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
