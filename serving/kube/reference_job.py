"""The gate's standalone model as a Job: made or found, waited for, spoken to, and deleted.

`ReferenceClient` asks as it asks a child process. One Job at a time, of this template; a controller
that takes over finds it by its name, with the base loaded. Only the process that leads runs this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from adapters.errors import ReferenceUnavailable
from adapters.parity.protocol import FAREWELL_ID, Reply
from adapters.parity.reference_channel import ChannelBroken, OnWaiting
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.reference_socket import ProofRefused, SocketChannel, connect
from serving.contract import reference_token
from serving.controller.context import ControllerContext
from serving.kube.cluster import Cluster
from serving.kube.errors import KubeError, KubeThrottled, KubeUnreachable
from serving.kube.kinds import Json
from serving.kube.reference_objects import ReferenceObjects
from serving.kube.reference_pods import GivenUp, Over, Ready, Waiting
from serving.kube.reference_template import ReferenceTemplate, ReferenceTemplateInvalid

_POLL_SECONDS = 1.0
_STUCK_SECONDS = 60.0
"""How long a pod may lack its image or its configuration; arbitrary, some tries of a kubelet."""
_DYING_SECONDS = 5.0
"""How long a broken connection's pod may take to say how it ended."""

_REMOVE_SECONDS = 4.0
"""Shorter than the time for which nobody else can lead after `is_held` was last true."""
_FAREWELL_BYTES = 1000
"""A farewell is shorter; longer lines are not read twice."""

log = structlog.get_logger()


class JobLauncher:
    """A `Launcher` whose process is a Job's pod."""

    n_resends = 1
    """A pod may be preempted, or its node drained: worth one more pod, not a row of them."""
    shares_files = False

    def __init__(
        self,
        objects: ReferenceObjects,
        *,
        port: int,
        token: str,
        wait_seconds: float,
        poll_seconds: float = _POLL_SECONDS,
        stuck_seconds: float = _STUCK_SECONDS,
        is_held: Callable[[], bool] = lambda: True,
    ) -> None:
        """Nothing is made yet.

        Args:
            objects: the Job in the cluster.
            port: where its pod listens.
            token: what both sides prove to know.
            wait_seconds: longest time until there is a pod to ask.
            poll_seconds: pause between two looks at the Job.
            stuck_seconds: longest time without an image or a usable configuration.
            is_held: whether this process surely leads still: nobody else may use the Job then.
        """
        self._objects, self._port, self._token = objects, port, token
        self._wait_seconds, self._poll_seconds = wait_seconds, poll_seconds
        self._stuck_seconds, self._is_held = stuck_seconds, is_held
        self._job: Json | None = None
        self._channel: JobChannel | None = None

    async def start(self, on_waiting: OnWaiting) -> JobChannel:
        """A channel to the Job's pod; a Job that is there is used.

        Raises:
            ReferenceUnavailable: there is no pod to ask, with the cluster's own reason and the log.
        """
        wait = _Wait(on_waiting, self._stuck_seconds)
        try:
            async with asyncio.timeout(self._wait_seconds):
                while True:
                    channel = await self._try(wait)
                    if channel is not None:
                        self._channel = channel
                        return channel
                    await asyncio.sleep(self._poll_seconds)
        except TimeoutError as exc:
            reason = f"no reference within {self._wait_seconds:g} s: {wait.text}"
            raise await self._failed(reason, wait.pod) from exc

    async def release(self) -> None:
        """Delete the Job, unless another controller has taken it over, or may be about to."""
        job, self._job = self._job, None
        channel, self._channel = self._channel, None
        if job is None or (channel is not None and channel.was_cut):
            # Cut: it ended, or is somebody else's. Without a client it ends by itself.
            return
        if not self._is_held():
            log.info("reference job left to the next leader", job=job["metadata"]["name"])
            return
        try:
            async with asyncio.timeout(_REMOVE_SECONDS):
                await self._objects.remove(job["metadata"]["name"], job["metadata"]["uid"])
        except (KubeError, TimeoutError) as exc:
            log.warning("reference job not deleted", reason=str(exc) or "too late")

    async def end_of(self, pod: str) -> str:
        """What became of a pod whose connection ended: a clause for an error."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DYING_SECONDS):
                while True:
                    if (end := await self._objects.end_of(pod)) is not None:
                        return end
                    await asyncio.sleep(self._poll_seconds / 2)
        return f"the connection to pod {pod} ended"

    async def log_of(self, pod: str) -> str:
        """The last lines of a pod's log."""
        return await self._objects.log_of(pod)

    async def _try(self, wait: _Wait) -> JobChannel | None:
        try:
            return await self._look(wait)
        except (KubeUnreachable, KubeThrottled) as exc:
            wait.tell(f"the Kubernetes API does not answer: {exc}")
            return None
        except KubeError as exc:
            raise ReferenceUnavailable(
                reason=f"Kubernetes refused the reference's Job: {exc}"
            ) from exc

    async def _look(self, wait: _Wait) -> JobChannel | None:
        if self._job is None or not wait.has_job:
            # Each start asks anew: what was there before may have ended.
            self._job = await self._objects.present()
            if self._job is None:
                wait.tell("the Job before is still being removed")
                return None
            wait.has_job = True
        metadata = self._job["metadata"]
        match await self._objects.standing(metadata["name"], metadata["uid"]):
            case Ready(pod, address):
                return await self._connect(wait, pod, address)
            case Waiting() as waiting:
                if wait.is_stuck(waiting):
                    raise await self._failed(waiting.text, waiting.pod)
            case GivenUp(text, pod):
                # Left for people to look at; its own time to live removes it.
                self._job = None
                raise await self._failed(text, pod)
            case Over() | None:
                wait.has_job = False
                wait.tell("the Job has ended and is made again")
        return None

    async def _connect(self, wait: _Wait, pod: str, address: str) -> JobChannel | None:
        try:
            channel = await connect(address, self._port, token=self._token)
        except ChannelBroken:
            wait.tell(f"pod {pod} does not answer on port {self._port} yet", pod)
            return None
        except ProofRefused as exc:
            reason = f"pod {pod} and this controller have different tokens: {exc}"
            raise await self._failed(reason, pod) from exc
        wait.tell(f"pod {pod} answers; it reads the base model unless it has it")
        return JobChannel(channel, pod, self)

    async def _failed(self, reason: str, pod: str | None) -> ReferenceUnavailable:
        return ReferenceUnavailable(reason=reason, log_tail=await self._objects.log_of(pod))


class JobChannel:
    """The connection to one pod; when it breaks, the pod's own end is what is told."""

    pid: int | None = None

    def __init__(self, channel: SocketChannel, pod: str, launcher: JobLauncher) -> None:
        self._channel, self._launcher = channel, launcher
        self.pod = pod
        self.was_cut = False
        """The other side closed it: the pod ended, or a newer client was let in."""

    @property
    def is_open(self) -> bool:
        """See `Channel`."""
        return self._channel.is_open

    async def write_line(self, line: bytes) -> None:
        """See `Channel`."""
        await self._channel.write_line(line)

    async def read_line(self) -> bytes:
        """See `Channel`."""
        line = await self._channel.read_line()
        # The server's farewell may be read before its end of the connection is known.
        if len(line) <= _FAREWELL_BYTES and msgspec.json.decode(line, type=Reply).id == FAREWELL_ID:
            self.was_cut = True
        return line

    async def explain_end(self) -> str:
        """How the pod ended, where it did."""
        return await self._launcher.end_of(self.pod)

    async def log_tail(self) -> str:
        """The pod's last lines."""
        return await self._launcher.log_of(self.pod)

    async def end(self) -> None:
        """Close the connection; the pod stays for the next one."""
        self.was_cut = self.was_cut or not self._channel.is_open
        await self._channel.end()


class _Wait:
    """One wait for a pod: what was last told, and since when nothing moves."""

    def __init__(self, on_waiting: OnWaiting, stuck_seconds: float) -> None:
        self._on_waiting, self._stuck_seconds = on_waiting, stuck_seconds
        self._stuck_since: float | None = None
        self.text = "nothing was heard of it"
        self.pod: str | None = None
        self.has_job = False

    def tell(self, text: str, pod: str | None = None) -> None:
        """Tell why it is still waited for."""
        self.text, self.pod = text, pod
        self._on_waiting(text)

    def is_stuck(self, waiting: Waiting) -> bool:
        """Tell; True: it has lacked something for so long that it will not come by itself."""
        self.tell(waiting.text, waiting.pod)
        at = asyncio.get_running_loop().time()
        if not waiting.cause.is_stuck:
            self._stuck_since = None
            return False
        self._stuck_since = at if self._stuck_since is None else self._stuck_since
        return at - self._stuck_since >= self._stuck_seconds


def job_reference(
    context: ControllerContext,
    cluster: Cluster,
    *,
    template: Path,
    owner: str | None,
    is_held: Callable[[], bool],
) -> ReferenceClient:
    """The gate's standalone side as a Job of this cluster; nothing is made yet.

    `owner`: a StatefulSet that takes the Job along when it is deleted. `is_held`: whether this
    process surely leads.

    Raises:
        ReferenceTemplateInvalid: the file cannot be read, or is no Job of a reference.
    """
    settings = context.settings
    token = settings.reference_token or reference_token(context.cluster_secret)
    try:
        parsed = ReferenceTemplate.parse(template.read_text(), token=token)
    except OSError as exc:
        raise ReferenceTemplateInvalid(f"{template} cannot be read: {exc}") from exc
    launcher = JobLauncher(
        ReferenceObjects(cluster, parsed, owner=owner),
        port=parsed.port,
        token=token,
        wait_seconds=settings.reference_wait_seconds,
        is_held=is_held,
    )
    return ReferenceClient(
        launcher=launcher,
        idle_seconds=settings.reference_idle_seconds,
        # A wait for a node is not the model's time.
        timeout_seconds=settings.gate_timeout_seconds + settings.reference_wait_seconds,
    )
