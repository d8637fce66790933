"""A step's hold on its version: renewed while the step works, and carrier of its progress."""

from __future__ import annotations

import asyncio
from typing import Any

from serving.controller.errors import RegistryUnavailable
from serving.controller.registry.tables import VersionRow
from serving.controller.registry.work import Work

PROGRESS_SECONDS = 0.5
"""Shortest pause between two writes of progress: `push --wait` looks about as often."""


class Lease:
    """One claimed version. Steps read `version_id` and `token`, and call `progress` and `apply`."""

    def __init__(self, work: Work, row: VersionRow, *, lease_seconds: float) -> None:
        if row.lock_token is None:
            raise ValueError(f"{row.id} is not claimed")
        self.version_id, self.token = row.id, row.lock_token
        self._work, self._lease_seconds = work, lease_seconds
        self._shown: dict[str, Any] | None = row.progress
        self._latest: dict[str, Any] | None = row.progress

    def progress(self, stage: str, done: int = 0, total: int = 0, **more: Any) -> None:
        """Tell people how far the step is; written soon, the latest alone."""
        self._latest = {"stage": stage, "done": done, "total": total, **more}

    async def apply(self, **changes: Any) -> bool:
        """`Work.apply` under this lease, with the latest progress; False: stale, nothing done."""
        goes_on = changes.get("keep_lease") or changes.get("retry_after_seconds") is not None
        if goes_on and self._latest != self._shown:
            changes["progress"] = self._latest
        move = changes.pop("move", None)
        is_held = await self._work.apply(self.version_id, self.token, move, **changes)
        self._shown = changes.get("progress", self._shown)
        return is_held

    async def keep(self) -> None:
        """Renew and write progress until the lease is stale (returns) or the step ends (cancelled).

        A registry that does not answer is asked again at the next turn: the lease's own expiry is
        what protects the version then.
        """
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            is_due = loop.time() - renewed_at >= self._lease_seconds / 3
            try:
                if self._latest != self._shown and not await self.apply(keep_lease=True):
                    return
                if is_due and not await self._renew():
                    return
            except RegistryUnavailable:
                continue
            if is_due:
                renewed_at = loop.time()

    async def _renew(self) -> bool:
        return await self._work.renew(
            self.version_id, self.token, lease_seconds=self._lease_seconds
        )
