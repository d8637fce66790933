"""One node that runs a chart's workloads: pods, services and names, in a thread of its own.

Level-triggered: `apply` says what should be, and the node works towards it until it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from bench.kubelet.cluster_services import ClusterServices
from bench.kubelet.environment import Placement, service_links
from bench.kubelet.names import resolver_file, serve_names
from bench.kubelet.network import PodNetwork
from bench.kubelet.objects import Json, Objects, PodBody, make_pod
from bench.kubelet.pod import Pod, Setting
from bench.kubelet.volumes import Mount, Token, VolumeRoom, account_volume
from bench.kubelet.workloads import Present, identity, missing, surplus

Result = TypeVar("Result")
_POLL_SECONDS = 0.1
_MOST_RESTARTS = 3
"""Arbitrary: whoever waits need not wait for a pod that keeps ending."""
_WORKLOADS = ("Deployment", "StatefulSet")


class NodeFailed(Exception):
    """What was waited for did not come; the pods' logs are in the text."""


class Registrar(Protocol):
    """Whoever else has to know of the pods, such as an API server."""

    async def created(self, body: PodBody) -> None:
        """A pod is about to be started."""

    async def changed(self, pod: Pod) -> None:
        """Its status is another."""

    async def leaving(self, pod: Pod) -> None:
        """It has been told to end."""

    async def gone(self, pod: Pod) -> None:
        """Nothing of it is left."""


def _failure(pod: Pod) -> str | None:
    if pod.n_restarts >= _MOST_RESTARTS:
        return f"restarted {pod.n_restarts} times"
    return pod.failure


class Node:
    """Use as a context; on leaving it nothing of it is left but the folder with logs and claims."""

    def __init__(
        self, folder: Path, *, namespace: str = "default", registrar: Registrar | None = None
    ) -> None:
        self.folder, self.namespace = folder, namespace
        self.objects = Objects()
        self.claims: dict[str, Path] = {}
        """PersistentVolumeClaims and the folders that they are bound to."""
        self.token: Token | None = None
        self._registrar = registrar
        self._pods: dict[str, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._api_links: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="node", daemon=True)
        self._lock = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self.network = PodNetwork.make()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        self._thread.start()
        self.services = ClusterServices(self.network, self.namespace, lambda: self._pods.values())
        try:
            self._names = self.call(serve_names(self.network.host_address, self.services.addresses))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self.network.close()

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the node's thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def apply(self, objects: Iterable[Json]) -> None:
        """Take over objects, as `kubectl apply` does, and start what they want.

        A changed pod template is taken by the next pod; running ones stay as they are.

        Raises:
            PodInvalid: a pod that cannot be started.
        """
        self.objects.add(objects)
        for claim in self.objects.of("PersistentVolumeClaim"):
            name = claim["metadata"]["name"]
            self.claims.setdefault(name, self.folder / "claims" / name)
        self.call(self._apply_services())
        self.call(self._reconcile())

    def add_api_server(self, port: int, certificate: str, token: Token) -> None:
        """Let pods reach an API server of this host at `kubernetes.default.svc`, with tokens."""
        address = self.call(
            self.services.add_outside("kubernetes.default", 443, ("127.0.0.1", port))
        )
        self._api_links = {
            "KUBERNETES_SERVICE_HOST": "kubernetes.default.svc",
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBERNETES_SERVICE_PORT_HTTPS": "443",
            "KUBERNETES_PORT": f"tcp://{address}:443",
        }
        self.token = token
        root = {"name": "kube-root-ca.crt", "namespace": self.namespace}
        self.objects.add([{"kind": "ConfigMap", "metadata": root, "data": {"ca.crt": certificate}}])

    @property
    def pods(self) -> dict[str, Pod]:
        """All pods that are not gone, by name."""
        return dict(self._pods)

    def pods_of(self, workload: str) -> list[Pod]:
        """A workload's pods, sorted by name."""
        return sorted(
            (pod for pod in self.pods.values() if pod.body.owner["metadata"]["name"] == workload),
            key=lambda pod: pod.body.name,
        )

    def delete_pod(self, name: str, *, grace_seconds: float | None = None) -> None:
        """End a pod as Kubernetes does and wait until it is gone; its workload makes another."""
        self.call(self._delete(self._pods[name], grace_seconds))

    def wait_ready(self, *workloads: str, seconds: float) -> None:
        """Until all pods that these workloads (default: all) want are ready.

        Raises:
            NodeFailed: not in time, or a pod that cannot start.
        """
        self.wait_until(lambda: self._are_ready(workloads), seconds=seconds)

    def wait_until(self, is_reached: Callable[[], bool], *, seconds: float) -> None:
        """Look until it is so.

        Raises:
            NodeFailed: not in time, or a pod that cannot start.
        """
        deadline = time.monotonic() + seconds
        while not is_reached():
            failures = {name: why for name, pod in self.pods.items() if (why := _failure(pod))}
            if failures or time.monotonic() > deadline:
                raise NodeFailed(f"{failures or 'too late'}\n{self.logs()}")
            time.sleep(_POLL_SECONDS)

    def logs(self) -> str:
        """The end of every container's log."""
        return "\n".join(pod.log() for pod in self.pods.values())

    def run_in(
        self, pod: str, command: Sequence[str], *, container: str | None = None, seconds: float = 60
    ) -> tuple[int, str]:
        """Status and output of a command in a pod's container (default: the first)."""
        found = self._pods[pod].containers
        chosen = found[container] if container else next(iter(found.values()))
        return self.call(chosen.run(command, seconds=seconds))

    def _are_ready(self, names: Sequence[str]) -> bool:
        wanted = [
            each
            for each in self.objects.of(*_WORKLOADS)
            if not names or each["metadata"]["name"] in names
        ]
        return all(
            sum(pod.is_ready for pod in self.pods_of(each["metadata"]["name"]))
            >= int(each["spec"].get("replicas", 1))
            for each in wanted
        )

    async def _apply_services(self) -> None:
        for service in self.objects.of("Service"):
            await self.services.add(service)

    async def _reconcile(self) -> None:
        async with self._lock:
            workloads = self.objects.of(*_WORKLOADS)
            present = [
                Present(name, identity(pod.body.owner), pod.is_leaving)
                for name, pod in self._pods.items()
            ]
            for name in surplus(workloads, present):
                if not self._pods[name].is_leaving:
                    self._in_background(self._delete(self._pods[name], None))
            for workload, name in missing(workloads, present):
                await self._start(make_pod(workload, name, self.namespace))

    async def _start(self, body: PodBody) -> None:
        if self._registrar:
            await self._registrar.created(body)
        if self.token is not None:
            self._add_account(body)
        for volume in body.spec.get("volumes") or ():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and claim.endswith(body.name):
                self.claims.setdefault(claim, self.folder / "claims" / claim)
        folder = self.folder / "pods" / body.name
        link = await asyncio.to_thread(self.network.add_pod)
        where = Placement(link.address, self.network.host_address)
        room = VolumeRoom(folder / "volumes", body, self.objects, where, self.claims, self.token)
        setting = Setting(
            folder=folder,
            logs=self.folder / "logs",
            objects=self.objects,
            links=self._links(body),
            files=self._network_files(body, where, folder),
            changed=self._changed,
        )
        pod = self._pods[body.name] = Pod(body, link, where, room, setting)
        self._tasks[body.name] = self._loop.create_task(pod.run())

    def _links(self, body: PodBody) -> dict[str, str]:
        if not body.spec.get("enableServiceLinks", True):
            return self._api_links
        links = service_links(self.services.services(), self.services.cluster_ips)
        return {**links, **self._api_links}

    def _add_account(self, body: PodBody) -> None:
        account = self.objects.find("ServiceAccount", body.service_account) or {}
        default = account.get("automountServiceAccountToken", True)
        if not body.spec.get("automountServiceAccountToken", default):
            return
        volume, path = account_volume()
        body.spec.setdefault("volumes", []).append(volume)
        for container in body.containers():
            mounts = container.setdefault("volumeMounts", [])
            if all(mount["mountPath"] != path for mount in mounts):
                mounts.append({"name": volume["name"], "mountPath": path, "readOnly": True})

    def _network_files(self, body: PodBody, where: Placement, folder: Path) -> tuple[Mount, ...]:
        folder.mkdir(parents=True)
        hostname = body.spec.get("hostname", body.name)
        texts = {
            "hosts": f"127.0.0.1\tlocalhost\n{where.address}\t{hostname}\n",
            "resolv.conf": resolver_file(self.network.host_address, self.namespace),
            "hostname": f"{hostname}\n",
        }
        for name, text in texts.items():
            (folder / name).write_text(text)
        return tuple(Mount(folder / name, f"/etc/{name}", is_read_only=False) for name in texts)

    def _changed(self, pod: Pod) -> None:
        if self._registrar:
            self._in_background(self._registrar.changed(pod))

    async def _delete(self, pod: Pod, grace_seconds: float | None) -> None:
        name = pod.body.name
        if self._registrar:
            await self._registrar.leaving(pod)
        pod.leave()
        await self._reconcile()
        await self._remove(pod, grace_seconds)
        if self._registrar:
            await self._registrar.gone(pod)
        del self._pods[name]
        await self._reconcile()

    async def _remove(self, pod: Pod, grace_seconds: float | None) -> None:
        task = self._tasks.pop(pod.body.name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pod.stop(grace_seconds)
        await asyncio.to_thread(self.network.remove_pod, pod.link)

    async def _close(self) -> None:
        self.objects, self._registrar = Objects(), None
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        pods = [pod for name, pod in self._pods.items() if name in self._tasks]
        await asyncio.gather(*(self._remove(pod, 0) for pod in pods), return_exceptions=True)
        await self.services.close()
        if hasattr(self, "_names"):
            self._names.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder / "pods")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
