"""One pod's life: volumes, init containers, containers under their probes, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.kubelet import probes
from bench.kubelet.container import Container, ContainerFailed, plan_container
from bench.kubelet.environment import Placement, container_environment
from bench.kubelet.network import PodLink
from bench.kubelet.objects import Json, Objects, PodBody, PodInvalid
from bench.kubelet.volumes import Mount, VolumeRoom

_GRACE_SECONDS = 30.0
_AFTER_HOOK_SECONDS = 2.0
"""What a kubelet still gives a container whose preStop used up the grace period."""
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 10.0, 300.0


@dataclass(frozen=True)
class Setting:
    """What the node gives a pod to run in."""

    folder: Path
    logs: Path
    objects: Objects
    links: Mapping[str, str]
    files: tuple[Mount, ...]
    changed: Callable[[Pod], None]


@dataclass
class _Running:
    """A container's state, as its status in the pod shows it."""

    spec: Json
    container: Container | None = None
    is_started: bool = False
    is_ready: bool = False
    n_restarts: int = 0


class Pod:
    """A pod on this node; `changed` of its setting is called whenever its status is another."""

    def __init__(
        self, body: PodBody, link: PodLink, where: Placement, room: VolumeRoom, setting: Setting
    ) -> None:
        self.body, self.link, self.where = body, link, where
        self._room, self._setting = room, setting
        self.is_leaving = False
        self.failure: str | None = None
        self.hook_results: list[tuple[int, str]] = []
        """Status and output of each preStop command."""
        self._parts = [_Running(spec) for spec in body.spec["containers"]]
        self._is_initialized = False

    @property
    def is_ready(self) -> bool:
        """Whether services may lead to it."""
        return not self.is_leaving and all(part.is_ready for part in self._parts)

    @property
    def containers(self) -> dict[str, Container]:
        """Those that have been started, by name."""
        return {part.spec["name"]: part.container for part in self._parts if part.container}

    @property
    def n_restarts(self) -> int:
        """Of all containers together."""
        return sum(part.n_restarts for part in self._parts)

    def log(self) -> str:
        """The end of each container's log."""
        names = [each["name"] for each in self.body.containers()]
        paths = [self._log_path(name) for name in names]
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in paths
            if path.exists()
        )

    async def run(self) -> None:
        """Until cancelled; a pod that cannot start says so in `failure`."""
        try:
            for spec in self.body.spec.get("initContainers") or ():
                await self._run_init(spec)
            self._is_initialized = True
            self._setting.changed(self)
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(self._keep(part))
        except* (PodInvalid, ContainerFailed, probes.ProbeUnknown) as errors:
            self.failure = "; ".join(str(error) for error in errors.exceptions)
            self._setting.changed(self)

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Hooks, SIGTERM, and SIGKILL when the grace period is over; then nothing is left of it."""
        if grace_seconds is None:
            given = self.body.spec.get("terminationGracePeriodSeconds", _GRACE_SECONDS)
            grace_seconds = float(given)
        self.leave()
        await asyncio.gather(*(self._end(part, grace_seconds) for part in self._parts))
        self._room.remove()
        shutil.rmtree(self._setting.folder, ignore_errors=True)

    def leave(self) -> None:
        """From now on no service leads to it."""
        if not self.is_leaving:
            self.is_leaving = True
            self._setting.changed(self)

    def conditions(self) -> dict[str, bool]:
        """As in the pod's status."""
        all_ready = all(part.is_ready for part in self._parts)
        return {
            "PodScheduled": True,
            "Initialized": self._is_initialized,
            "ContainersReady": all_ready,
            "Ready": all_ready,
        }

    def container_statuses(self) -> list[Json]:
        """As in the pod's status."""
        return [
            {
                "name": part.spec["name"],
                "image": part.spec["image"],
                "imageID": "",
                "ready": part.is_ready,
                "started": part.is_started,
                "restartCount": part.n_restarts,
            }
            for part in self._parts
        ]

    async def _run_init(self, spec: Json) -> None:
        container = self._make(spec)
        await container.start()
        status = await container.wait()
        if status:
            raise ContainerFailed(f"{spec['name']} ended with {status}: {container.tail()}")

    async def _keep(self, part: _Running) -> None:
        """Start it, and again whenever it ends, as `restartPolicy: Always` has it."""
        backoff = 0.0
        while True:
            part.container = self._make(part.spec)
            await part.container.start()
            await self._live(part, part.container)
            part.is_started = part.is_ready = False
            part.n_restarts += 1
            self._setting.changed(self)
            await asyncio.sleep(backoff)
            backoff = min(max(_FIRST_BACKOFF_SECONDS, 2 * backoff), _LONGEST_BACKOFF_SECONDS)

    async def _live(self, part: _Running, container: Container) -> None:
        """Until it ends by itself or because a probe says so."""
        condemned = asyncio.Event()
        watching = asyncio.create_task(self._watch(part, container, condemned))
        ended = asyncio.create_task(container.wait())
        dead = asyncio.create_task(condemned.wait())
        try:
            await asyncio.wait({watching, ended, dead}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            if condemned.is_set():
                await self._end(part, float(_GRACE_SECONDS))
        finally:
            for task in (watching, ended, dead):
                task.cancel()
            await asyncio.gather(watching, ended, dead, return_exceptions=True)

    async def _watch(self, part: _Running, container: Container, condemned: asyncio.Event) -> None:
        spec = part.spec

        def ask(probe: Json) -> Callable[[], Awaitable[bool]]:
            return lambda: probes.is_passed(probe, self.body.spec, self.where.address, container)

        def report_ready(passed: bool) -> None:
            if part.is_ready != passed:
                part.is_ready = passed
                self._setting.changed(self)

        def report_alive(passed: bool) -> None:
            if not passed:
                condemned.set()

        if "startupProbe" in spec:
            await self._wait_started(spec["startupProbe"], ask, condemned)
        part.is_started = True
        tasks = []
        if "livenessProbe" in spec:
            tasks.append(
                probes.watch(spec["livenessProbe"], ask(spec["livenessProbe"]), report_alive)
            )
        if "readinessProbe" in spec:
            tasks.append(
                probes.watch(spec["readinessProbe"], ask(spec["readinessProbe"]), report_ready)
            )
        else:
            report_ready(passed=True)
        await asyncio.gather(*tasks, asyncio.Event().wait())

    async def _wait_started(
        self,
        probe: Json,
        ask: Callable[[Json], Callable[[], Awaitable[bool]]],
        condemned: asyncio.Event,
    ) -> None:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def report(passed: bool) -> None:
            if not answer.done():
                answer.set_result(passed)

        watching = asyncio.create_task(probes.watch(probe, ask(probe), report))
        try:
            awaited: set[asyncio.Future[Any]] = {watching, answer}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            if not answer.result():
                condemned.set()
                await asyncio.Event().wait()
        finally:
            watching.cancel()

    async def _end(self, part: _Running, grace_seconds: float) -> None:
        container = part.container
        if container is None or not container.is_running:
            return
        deadline = time.monotonic() + grace_seconds
        hook = (part.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace_seconds > 0:
            with contextlib.suppress(TimeoutError, ContainerFailed):
                command = hook["exec"]["command"]
                self.hook_results.append(await container.run(command, seconds=grace_seconds))
        if container.pid is None:
            await container.kill()
        container.terminate()
        left = max(deadline - time.monotonic(), _AFTER_HOOK_SECONDS if grace_seconds else 0)
        try:
            async with asyncio.timeout(left):
                await container.wait()
        except TimeoutError:
            await container.kill()

    def _make(self, spec: Json) -> Container:
        mounts = [*self._room.mounts(spec), *self._setting.files]
        values = container_environment(
            self.body, spec, self._setting.objects, self.where, self._setting.links
        )
        scratch = self._setting.folder / "containers" / spec["name"]
        shutil.rmtree(scratch, ignore_errors=True)
        plan = plan_container(self.body, spec, values, mounts, scratch)
        return Container(plan, namespace=self.link.namespace, log=self._log_path(spec["name"]))

    def _log_path(self, container: str) -> Path:
        return self._setting.logs / f"{self.body.name}.{container}.log"
