"""The present snapshot for everybody who waits for it: read once, compiled once, encoded once.

A hundred engines wake at the same moment. The first that asks does the work; the others get the
same bytes: a delta, where it is known what they hold, or else the whole snapshot.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass

from serving.contract import encode, hash_key
from serving.controller.context import ControllerContext, store_url
from serving.controller.snapshot import Entries, compile_snapshot
from serving.snapshot_delta import HeldSnapshot, diff, encode_delta

_FEW_VERSIONS = 500
"""So many are looked at in a few milliseconds."""
_PATIENCE_SECONDS = 60.0
"""Between two looks at whether the process is about to end; arbitrary."""


@dataclass(frozen=True, slots=True)
class Present:
    """The snapshot of one revision."""

    held: HeldSnapshot
    restored_revision: int | None
    """See `FleetRow`, as of this revision."""

    @property
    def revision(self) -> int:
        """Its revision."""
        return self.held.snapshot.revision

    def is_foreign(self, following: int) -> bool:
        """Whether the registry never gave out what an engine says that it follows."""
        restored = self.restored_revision
        return following > self.revision or (restored is not None and following < restored)


class SnapshotKeeper:
    """The last compiled snapshot, and the bytes that were made of it."""

    def __init__(self) -> None:
        self.present: Present | None = None
        self._entries = Entries()
        self._lock = asyncio.Lock()
        self._whole = b""
        self._deltas: dict[str, bytes] = {}
        self._n_frozen = -_FEW_VERSIONS

    async def fetch(self, context: ControllerContext) -> Present:
        """A snapshot that is at least as new as the notifier's revision.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        async with self._lock:
            present = self.present
            if present is None or present.revision < context.notifier.revision:
                present = await self._read(context)
            return present

    async def follow(self, context: ControllerContext) -> None:
        """Know each snapshot soon after its revision is there, until the notifier is closed.

        All engines may talk to other controllers: their reports, in the registry, refer to
        snapshots that nobody has asked this one for.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        seen, notifier = -1, context.notifier
        while not notifier.is_closed:
            if await notifier.wait_beyond(seen, _PATIENCE_SECONDS):
                # Not the snapshot's own: a registry that was restored may be behind for a while.
                seen = notifier.revision
                await self.fetch(context)

    async def _read(self, context: ControllerContext) -> Present:
        fleet, before = context.repository.fleet, self.present
        rows = await fleet.snapshot_rows()
        snapshot = compile_snapshot(
            rows,
            fleet=context.settings.fleet,
            store_url=store_url(context.settings),
            gate_key_hash=hash_key(context.gate_key, cluster_secret=context.cluster_secret),
            entries=self._entries,
        )
        held = HeldSnapshot.of(snapshot, None if before is None else before.held)
        present = Present(held, rows.restored_revision)
        if before is not None and before.revision > present.revision:
            return before
        fleet.history.keep(held)
        self._spare_the_collector(len(snapshot.versions))
        self.present, self._whole, self._deltas = present, b"", {}
        return present

    def _spare_the_collector(self, n_versions: int) -> None:
        # Rows and entries of thousands of versions live as long as the process. A full collection
        # looks at every one of them, each time in the middle of somebody's promotion: measured,
        # that was half of it. Each doubling is one collection more, and then they are passed over.
        # So is, from the first look on, what the process has imported.
        if n_versions > 2 * self._n_frozen + _FEW_VERSIONS:
            gc.collect()
            gc.freeze()
            self._n_frozen = n_versions

    def whole(self) -> bytes:
        """The present snapshot as JSON. Only after `fetch`."""
        if not self._whole:
            self._whole = encode(self._held.snapshot)
        return self._whole

    def delta(self, context: ControllerContext, base: str) -> bytes | None:
        """What leads from the snapshot with tag `base` to the present one; None: say it whole."""
        made = self._deltas.get(base)
        if made is None:
            before = context.repository.fleet.history.find(base)
            if before is None:
                return None
            made = self._deltas[base] = encode_delta(diff(before, self._held))
        return made

    @property
    def _held(self) -> HeldSnapshot:
        if self.present is None:
            raise RuntimeError("nothing was fetched yet")
        return self.present.held
