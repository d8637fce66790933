"""How hard the gate may press an engine: as it likes while tenants are quiet, gently while not.

The engine tells the gate with every answer how many tenants' requests it has in flight. Together
with the engine's own priority classes that keeps the gate out of the tenants' way.
"""

from __future__ import annotations

import asyncio

TENANTS_HEADER = "x-loraplane-tenants-in-flight"
COMPANY = 2
"""Tenants' requests in flight from which on the gate needs to send no company of its own."""


class Pace:
    """Shared by the workers of one client; worker `index` may work while `index < limit`."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = max(1, concurrency)
        self._tenants_in_flight = 0
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def concurrency(self) -> int:
        """Workers while tenants are quiet."""
        return self._concurrency

    @property
    def limit(self) -> int:
        """Requests that the gate may have in flight now."""
        return self._concurrency if self._tenants_in_flight == 0 or self._is_over else 1

    @property
    def needs_company(self) -> bool:
        """Whether batches would be of the candidate alone without requests for company."""
        return self._tenants_in_flight < COMPANY

    def observe(self, header: str | None) -> None:
        """What the engine said with an answer; nothing (another build) leaves the pace as it is."""
        if header is None or not header.isdigit():
            return
        self._tenants_in_flight = int(header)
        self._wake()

    def end(self) -> None:
        """The work is over or broken off: let waiting workers see it."""
        self._is_over = True
        self._wake()

    async def turn(self, index: int) -> None:
        """Wait until worker `index` may send; the first never waits."""
        while index >= self.limit:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
