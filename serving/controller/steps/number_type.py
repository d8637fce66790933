"""Whose turn it is with the standalone model, which computes in one number type at a time.

A re-check of one kind of engine and an evaluation for another kind share it: loaded in the other's
type half-way, it would measure what neither of them asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class NumberTypeTurns:
    """Measurements in one number type go on side by side; one in another type waits for them."""

    def __init__(self) -> None:
        self._dtype, self._n_holders = "", 0
        self._is_free = asyncio.Event()

    @asynccontextmanager
    async def hold(self, dtype: str, *, on_waiting: Callable[[str], None]) -> AsyncIterator[None]:
        """Have the model in this type until the end; `on_waiting` hears what it is waited for."""
        while self._n_holders and self._dtype != dtype:
            on_waiting(f"another measurement needs the standalone model in {self._dtype}")
            self._is_free.clear()
            await self._is_free.wait()
        self._dtype = dtype
        self._n_holders += 1
        try:
            yield
        finally:
            self._n_holders -= 1
            if not self._n_holders:
                self._is_free.set()
