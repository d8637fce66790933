"""The reference's Job, pods, events and logs in the cluster: what is there, made and removed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from serving.kube.cluster import EVENTS, JOBS, PODS, Cluster
from serving.kube.errors import KubeAlreadyExists, KubeError, KubeRefused
from serving.kube.kinds import Json
from serving.kube.owners import find_owner
from serving.kube.reference_pods import Standing, end_of, is_over, judge
from serving.kube.reference_template import CONTAINER, ReferenceTemplate

_LOG_LINES = 50
_FIRST_EVENTS_PAUSE_SECONDS, _EVENTS_PAUSE_SECONDS = 2.0, 30.0

log = structlog.get_logger()


class ReferenceObjects:
    """The cluster's side of one reference; a template stands for at most one Job at a time."""

    def __init__(
        self, cluster: Cluster, template: ReferenceTemplate, *, owner: str | None = None
    ) -> None:
        """`owner`: a StatefulSet that takes the Job along when it is deleted."""
        self._cluster, self._template, self._owner = cluster, template, owner
        self._refusal: _Refusal | None = None

    async def present(self) -> Json | None:
        """This template's Job, made if need be; None: an ended one of that name is still there.

        Jobs of other templates, and ended ones, are removed: they may hold the GPU.

        Raises:
            KubeError: the Job was refused, or the API server did not answer.
        """
        found = None
        listing = await self._cluster.list(JOBS, labels=self._template.family_selector)
        for job in listing.items:
            if job["metadata"]["name"] == self._template.name and not is_over(job):
                found = job
            else:
                await self._remove(job)
        return found or await self._make()

    async def standing(self, name: str, uid: str) -> Standing | None:
        """How the Job stands; None: it is gone.

        Raises:
            KubeError: the API server did not answer, or may not be asked.
        """
        jobs = await self._cluster.list(JOBS, labels=self._template.selector)
        job = next((item for item in jobs.items if item["metadata"].get("uid") == uid), None)
        if job is None:
            return None
        pods = await self._cluster.list(PODS, labels=self._template.selector)
        refusal = "" if pods.items else await self._refusal_of(uid)
        return judge(job, pods.items, refusal=refusal)

    async def end_of(self, pod: str) -> str | None:
        """How the pod ended; None where it did not, or nobody can tell yet."""
        try:
            return end_of(await self._cluster.get(PODS, pod))
        except KubeRefused:
            return f"pod {pod} is gone"
        except KubeError:
            return None

    async def log_of(self, pod: str | None) -> str:
        """The last lines of the pod's log; empty where it cannot be had."""
        if pod is None:
            return ""
        try:
            text = await self._cluster.log_tail(pod, container=CONTAINER, lines=_LOG_LINES)
        except KubeError:
            # The log explains a failure that is told anyway; its own absence is no second one.
            return ""
        return text.rstrip("\n")

    async def remove(self, name: str, uid: str) -> None:
        """Delete the Job with its pods; absent is fine.

        Raises:
            KubeError: the API server did not answer, or refused.
        """
        await self._cluster.delete(JOBS, name, uid=uid)

    async def _make(self) -> Json | None:
        # Without an owner the Job outlives an uninstall by its own idle time, no more.
        owner = await find_owner(self._cluster, self._owner, of="the reference's Job")
        job = self._template.job(owner=owner)
        try:
            return await self._cluster.create(JOBS, job)
        except KubeAlreadyExists:
            return None

    async def _remove(self, job: Json) -> None:
        if not job["metadata"].get("deletionTimestamp"):
            await self.remove(job["metadata"]["name"], job["metadata"]["uid"])

    async def _refusal_of(self, uid: str) -> str:
        """What the Job's last warning says; asked seldom, and its absence ends nothing."""
        known = self._refusal
        if known is None or known.uid != uid:
            known = self._refusal = _Refusal(uid)
        if not known.is_due():
            return known.text
        try:
            about = await self._cluster.list(EVENTS, fields=f"involvedObject.uid={uid}")
        except KubeError:
            return known.text
        own = [event for event in about.items if event.get("type") == "Warning"]
        own.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        known.text = str(own[-1].get("message") or "") if own else ""
        return known.text


@dataclass(slots=True)
class _Refusal:
    """Why a Job's pod was not made, as last read; read after 2, 4, 8 ... seconds again."""

    uid: str
    text: str = ""
    _at: float = 0.0
    _pause: float = _FIRST_EVENTS_PAUSE_SECONDS

    def is_due(self) -> bool:
        """Whether it is time to read it again; the caller does then."""
        now = asyncio.get_running_loop().time()
        if now < self._at:
            return False
        self._at, self._pause = now + self._pause, min(2 * self._pause, _EVENTS_PAUSE_SECONDS)
        return True
