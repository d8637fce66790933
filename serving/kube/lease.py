"""One leader among the controller's replicas, by a Lease of the Kubernetes API.

Who holds the Lease renews it; who waits takes it once it was not renewed for its whole duration,
judged by when the waiting process itself last saw the record change, never by the other's clock.
A Lease alone cannot keep a process that was asleep from writing when it wakes up: each lead has a
term, which the registry checks in every write (`serving.controller.registry.leadership`). It is the
Lease's count of transitions, always above the registry's own, also after the Lease was deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import structlog

from serving.controller.errors import RegistryUnavailable
from serving.controller.surroundings import Work
from serving.kube.cluster import LEASES, Cluster, Json
from serving.kube.errors import (
    KubeAlreadyExists,
    KubeConflict,
    KubeError,
    KubeNotFound,
)
from serving.kube.owners import find_owner, reference_to

_RELEASE_SECONDS = 3.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """In seconds. The leader must have given up before anybody may take its place."""

    duration: float = 15.0
    """So long after its last renewal the Lease may be taken."""
    deadline: float = 10.0
    """A leader that could not renew for so long gives up; the rest of `duration` is to stop in."""
    retry: float = 2.0
    """Between two renewals, or two looks; up to a fifth more, so that replicas fall out of step."""


@dataclass(slots=True)
class _Held:
    term: int
    body: Json
    renewed_at: float
    is_lost: bool = False


class LeaseLeadership:
    """Leads while it holds the Lease; see `serving.controller.surroundings.Leadership`."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        identity: str,
        floor: Callable[[], Awaitable[int]],
        times: LeaseTimes | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`identity` must be of this process alone; `floor` gives the latest term ever taken.

        `on_failure` hears of every turn that failed, to count it.
        """
        self._cluster, self._name, self._identity = cluster, name, identity
        self._floor, self._on_failure = floor, on_failure
        self._times = times or LeaseTimes()
        self._jitter = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._owner: str | None = None
        self._seen: Json | None = None
        self._seen_at = 0.0
        self._held: _Held | None = None
        self.is_leading = False

    @property
    def is_held(self) -> bool:
        """Whether the Lease was renewed so lately that nobody else can lead for a while yet."""
        held = self._held
        if held is None or held.is_lost:
            return False
        return _now() - held.renewed_at < self._times.deadline

    def owned_by(self, statefulset: str | None) -> Self:
        """The same, with a Lease that goes when this StatefulSet is deleted; None: with nothing."""
        self._owner = statefulset
        return self

    async def lead(self, work: Work) -> None:
        """Run `work(term)` whenever this process holds the Lease, until cancelled.

        An orderly end gives the Lease back, so that another replica need not wait.
        """
        while True:
            try:
                held = await self._acquire()
                if held is not None:
                    await self._hold(held, work)
            except (KubeError, RegistryUnavailable) as exc:
                self._on_failure()
                log.warning("lease not had", lease=self._name, reason=str(exc))
            except Exception:
                self._on_failure()
                log.exception("lead failed", lease=self._name)
            await self._pause()

    async def _acquire(self) -> _Held | None:
        """Take the Lease if it is free; None: it is not, or somebody was faster."""
        asked_at = _now()
        try:
            present = await self._cluster.get(LEASES, self._name)
        except KubeNotFound:
            present = None
        if present is not None and not self._is_free(present):
            return None
        known = int(_spec(present).get("leaseTransitions") or 0)
        term = max(known, await self._floor()) + 1
        body: Json = copy.deepcopy(present) if present else {"metadata": {"name": self._name}}
        body["spec"] = {**self._fresh_spec(term), "acquireTime": _timestamp()}
        owner = await find_owner(self._cluster, self._owner, of="the Lease")
        if owner is not None:
            body["metadata"]["ownerReferences"] = [reference_to(owner)]
        try:
            if present is None:
                body = await self._cluster.create(LEASES, body)
            else:
                body = await self._cluster.replace(LEASES, body)
        except (KubeAlreadyExists, KubeConflict, KubeNotFound):
            return None
        log.info("lease taken", lease=self._name, term=term)
        return _Held(term, body, asked_at)

    def _is_free(self, lease: Json) -> bool:
        spec = _spec(lease)
        if spec != self._seen:
            self._seen, self._seen_at = spec, _now()
        if not spec.get("holderIdentity"):
            return True
        duration = float(spec.get("leaseDurationSeconds") or self._times.duration)
        return _now() - self._seen_at >= duration

    async def _hold(self, held: _Held, work: Work) -> None:
        working = asyncio.ensure_future(work(held.term))
        keeping = asyncio.create_task(self._keep(held))
        self._held, self.is_leading = held, True
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The work first, while the Lease is still renewed: nobody begins before it has ended.
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            self._held, self.is_leading = None, False
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._release(held)
        for task in (working, keeping):
            if not task.cancelled():
                task.result()

    async def _keep(self, held: _Held) -> None:
        """Renew until the Lease is lost, or could be before the next renewal."""
        while not held.is_lost:
            last_moment = held.renewed_at + self._times.deadline
            await self._pause(at_most=last_moment - _now())
            try:
                async with asyncio.timeout_at(last_moment):
                    await self._renew(held)
            except (KubeError, TimeoutError) as exc:
                self._on_failure()
                log.warning("lease not renewed", lease=self._name, reason=str(exc) or "too late")
            held.is_lost = held.is_lost or _now() - held.renewed_at >= self._times.deadline
        log.warning("lease lost", lease=self._name, term=held.term)

    async def _renew(self, held: _Held) -> None:
        asked_at = _now()
        body = {**held.body, "spec": {**_spec(held.body), **self._fresh_spec(held.term)}}
        try:
            held.body = await self._cluster.replace(LEASES, body)
            held.renewed_at = asked_at
        except KubeNotFound:
            # Anybody may make a new one now, so this lead cannot go on.
            held.is_lost = True
        except KubeConflict:
            # Perhaps only a label was changed.
            present = await self._cluster.get(LEASES, self._name)
            held.is_lost = not self._is_mine(present, held.term)
            held.body = present

    async def _release(self, held: _Held) -> None:
        if held.is_lost:
            return
        # Nobody holds it: the next one to look takes it.
        spec = {**_spec(held.body), "holderIdentity": "", "leaseDurationSeconds": 1}
        spec["renewTime"] = _timestamp()
        with contextlib.suppress(KubeError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._cluster.replace(LEASES, {**held.body, "spec": spec})
                log.info("lease released", lease=self._name, term=held.term)

    def _fresh_spec(self, term: int) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(round(self._times.duration), 1),
            "leaseTransitions": term,
            "renewTime": _timestamp(),
        }

    def _is_mine(self, lease: Json, term: int) -> bool:
        spec = _spec(lease)
        return (spec.get("holderIdentity"), spec.get("leaseTransitions")) == (self._identity, term)

    async def _pause(self, at_most: float = float("inf")) -> None:
        seconds = self._times.retry * self._jitter.uniform(1.0, 1.2)
        await asyncio.sleep(max(min(seconds, at_most), 0.0))


def _spec(lease: Json | None) -> Json:
    spec = (lease or {}).get("spec")
    return spec if isinstance(spec, dict) else {}


def _now() -> float:
    # Never the time of day: that may jump.
    return asyncio.get_running_loop().time()


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
