"""A local copy of the objects of one kind, kept up to date by list and watch.

It only ever shows a complete state: nothing before the first whole list, then each change in order.
When the API server cannot be reached the copy stays as it was, which is old, not empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

import structlog

from serving.kube.cluster import Change, Cluster
from serving.kube.errors import KubeError, KubeExpired, KubeThrottled, KubeTooMuch
from serving.kube.kinds import Json, Kind

WATCH_SECONDS = 60.0
"""The server ends a watch after so long; a dead connection is not trusted for longer."""
_MAX_OBJECTS = 20_000
_PAUSE_SECONDS = 0.5
_PAUSE_SECONDS_MAX = 30.0

log = structlog.get_logger()


class Mirror:
    """Objects of `kind` that `labels` select, by name."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        labels: str | None = None,
        *,
        watch_seconds: float = WATCH_SECONDS,
        on_failure: Callable[[KubeError], None] = lambda error: None,
    ) -> None:
        """Nothing runs yet; `on_failure` hears of each try that failed, to count it."""
        self._cluster, self._kind, self._labels = cluster, kind, labels
        self._watch_seconds, self._on_failure = watch_seconds, on_failure
        self._objects: dict[str, Json] = {}
        self._resource_version: str | None = None
        self._changed = asyncio.Condition()
        self._failures = 0
        self._jitter = random.Random()  # noqa: S311 - spreads load, guards nothing
        self.is_synced = False
        """Whether there has been a complete list; it never turns back."""
        self.n_changes = 0
        """Grows with every change of `objects`."""

    @property
    def objects(self) -> Mapping[str, Json]:
        """By name; a view that follows. The objects in it are read-only by agreement."""
        return MappingProxyType(self._objects)

    async def wait_change(self, timeout_seconds: float, *, seen: int | None = None) -> bool:
        """Wait until `objects` has changed; False: it has not, in that time.

        `seen`: the `n_changes` that the caller has acted on, so that no change falls between its
        look and its wait; by default, what it is now.
        """
        known = self.n_changes if seen is None else seen
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: self.n_changes != known)
        return self.n_changes != known

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        while True:
            try:
                if self._resource_version is None:
                    await self._list()
                if await self._watch():
                    self._failures = 0
                    continue
                pause = self._pause()
            except KubeError as exc:
                if isinstance(exc, KubeExpired):
                    # Too far behind to be told the difference: look at everything again.
                    self._resource_version = None
                self._on_failure(exc)
                log.warning("mirror interrupted", kind=self._kind.plural, reason=str(exc))
                wanted = exc.retry_after_seconds if isinstance(exc, KubeThrottled) else 0.0
                pause = max(self._pause(), wanted)
            self._failures += 1
            await asyncio.sleep(pause)

    async def _list(self) -> None:
        listing = await self._cluster.list(self._kind, labels=self._labels)
        fresh = {str(item["metadata"]["name"]): item for item in listing.items}
        self._resource_version = listing.resource_version
        if fresh != self._objects or not self.is_synced:
            self._objects.clear()
            self._objects.update(fresh)
            self.is_synced = True
            await self._tell()

    async def _watch(self) -> bool:
        """Follow one watch to its end; False: it ended at once, so the next must not follow on."""
        began, n_seen = asyncio.get_running_loop().time(), 0
        changes = self._cluster.watch(
            self._kind,
            resource_version=self._resource_version or "",
            labels=self._labels,
            timeout_seconds=self._watch_seconds,
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                await self._take(change)
                self._failures, n_seen = 0, n_seen + 1
        return n_seen > 0 or asyncio.get_running_loop().time() - began >= _PAUSE_SECONDS

    async def _take(self, change: Change) -> None:
        facts = change.object["metadata"]
        if change.type != "BOOKMARK":
            name = str(facts["name"])
            if change.type == "DELETED":
                self._objects.pop(name, None)
            elif name not in self._objects and len(self._objects) >= _MAX_OBJECTS:
                self._resource_version = None
                raise KubeTooMuch(what=self._kind.plural, limit=_MAX_OBJECTS)
            else:
                self._objects[name] = change.object
            await self._tell()
        self._resource_version = str(facts["resourceVersion"])

    async def _tell(self) -> None:
        async with self._changed:
            self.n_changes += 1
            self._changed.notify_all()

    def _pause(self) -> float:
        longest = min(_PAUSE_SECONDS * 2.0 ** min(self._failures, 10), _PAUSE_SECONDS_MAX)
        # Between half and whole: a thousand clients of one server must not come back at once.
        return longest * self._jitter.uniform(0.5, 1.0)
