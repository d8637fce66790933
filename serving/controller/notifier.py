"""Wakes those who wait: at once for this process's writes, within a second for other replicas'."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serving.controller.errors import RegistryUnavailable

POLL_SECONDS = 1.0
"""How long a change by another replica may go unseen."""


class Notifier:
    """The snapshot's revision, as far as this process knows."""

    def __init__(
        self, fetch_revision: Callable[[], Awaitable[int]], *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._fetch_revision = fetch_revision
        self._poll_seconds = poll_seconds
        self._revision = -1
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def revision(self) -> int:
        """The highest revision seen; -1 before the first."""
        return self._revision

    @property
    def is_closed(self) -> bool:
        """Whether the process is about to end: nobody should wait any more."""
        return self._is_closed

    def publish(self, revision: int) -> None:
        """Something was committed; called by the registry after the commit."""
        self._revision = max(self._revision, revision)
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()

    def close(self) -> None:
        """Let everybody who waits return."""
        self._is_closed = True
        self._changed.set()

    async def wait_change(self, timeout_seconds: float) -> None:
        """Return at the next commit of this process, or after the timeout."""
        if self._is_closed:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def wait_beyond(self, revision: int, timeout_seconds: float) -> bool:
        """Whether a revision above `revision` exists, waiting for it up to the timeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while self._revision <= revision:
            left = deadline - loop.time()
            if left <= 0 or self._is_closed:
                return False
            await self.wait_change(left)
        return True

    async def run(self) -> None:
        """Look into the database for other replicas' changes, for ever."""
        while not self._is_closed:
            try:
                revision = await self._fetch_revision()
            except RegistryUnavailable:
                revision = self._revision
            if revision > self._revision:
                self.publish(revision)
            await asyncio.sleep(self._poll_seconds)
