"""A template of the reference's Job, its pods in every state, and a small node that runs them.

The node plays scheduler and kubelet for one selector: it starts the container's command on this
machine with the container's environment, and says in the pod's status what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from serving.kube.cluster import JOBS, PODS, Cluster
from serving.kube.errors import KubeAlreadyExists, KubeNotFound, KubeUnreachable
from serving.kube.reference_template import FAMILY_LABEL
from tests.builders.reference_servers import HOST, TOKEN, free_port

Json = dict[str, Any]
_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 30.0


def template_body(
    *, command: list[str], port: int, env: dict[str, str] | None = None, backoff_limit: int = 2
) -> Json:
    """A Job as the chart renders it, smaller."""
    labels = {"app.kubernetes.io/instance": "acme", "app.kubernetes.io/component": "reference"}
    container = {
        "name": "reference",
        "image": "example.test/evaluator:1",
        "command": command,
        "ports": [{"name": "reference", "containerPort": port}],
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": labels},
        "spec": {
            "backoffLimit": backoff_limit,
            "activeDeadlineSeconds": 3600,
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }


def server_template(
    store_url: str, *, child: list[str] | None = None, **env: str
) -> tuple[str, int]:
    """(a template that runs the real server, its port); `child`: a quick stand-in for its child."""
    port = free_port()
    program = ["-m", "adapters.parity.reference_server"]
    if child is not None:
        program = [str(Path(__file__).parents[1] / "fakes" / "reference_pod.py"), *child]
    settings = {
        "LORAPLANE_REFERENCE_TOKEN": TOKEN,
        "LORAPLANE_STORE_URL": store_url,
        "LORAPLANE_REFERENCE_HOST": HOST,
        "LORAPLANE_REFERENCE_PORT": str(port),
        "LORAPLANE_REFERENCE_DEVICE": "cpu",
        "LORAPLANE_REFERENCE_THREADS": "1",
        **env,
    }
    body = template_body(command=[sys.executable, *program], port=port, env=settings)
    return yaml.safe_dump(body), port


class SmallNode:
    """Runs the pods of references in one namespace."""

    def __init__(self, cluster: Cluster, *, makes_pods: bool, log: Any = None) -> None:
        """`makes_pods`: there is no controller manager, so the Jobs' pods are made here too."""
        self._cluster, self._makes_pods, self._log = cluster, makes_pods, log
        self.unschedulable: str | None = None
        """The scheduler's message, as long as no node takes a pod."""
        self.waiting: Json | None = None
        """The container's `waiting` state, as long as it cannot start."""
        self.makes_none = False
        """As if a quota allowed no pod; without a controller manager alone."""
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        """By pod."""
        self.started: list[str] = []
        self._output: dict[str, list[bytes]] = {}
        self._told: dict[str, Json] = {}
        self._readers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until cancelled; then every process is ended."""
        try:
            while True:
                # A node tries again, as everything here is found anew at each turn.
                with contextlib.suppress(KubeNotFound, KubeAlreadyExists, KubeUnreachable):
                    await self._turn()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for process in self.processes.values():
                await _end(process)
            await asyncio.gather(*self._readers, return_exceptions=True)

    def kill(self, pod: str) -> None:
        """As when its memory ran out."""
        os.killpg(self.processes[pod].pid, signal.SIGKILL)

    async def _turn(self) -> None:
        pods = {
            pod["metadata"]["name"]: pod
            for pod in (await self._cluster.list(PODS, labels=FAMILY_LABEL)).items
        }
        if self._makes_pods:
            await self._play_job_controller(pods)
        for name, pod in pods.items():
            if pod["metadata"].get("deletionTimestamp"):
                await self._remove(name)
            elif name in self.processes:
                await self._follow(name, pod)
            elif pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
                await self._begin(name, pod)
        for name in set(self.processes) - set(pods):
            await self._remove(name)

    async def _begin(self, name: str, pod: Json) -> None:
        if self.unschedulable is not None:
            await self._tell(name, _unscheduled(self.unschedulable))
        elif self.waiting is not None:
            await self._tell(name, container_status("Pending", {"waiting": self.waiting}))
        else:
            container = pod["spec"]["containers"][0]
            env = {item["name"]: item["value"] for item in container.get("env") or []}
            self.processes[name] = process = await asyncio.create_subprocess_exec(
                *container["command"],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **env},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                # A container ends as a whole.
                start_new_session=True,
            )
            self.started.append(name)
            self._output[name] = []
            self._readers.append(asyncio.create_task(self._read(name, process)))
            await self._tell(name, container_status("Running", {"running": {}}))

    async def _follow(self, name: str, pod: Json) -> None:
        process = self.processes[name]
        if process.returncode is not None:
            await _end(process)
            code = process.returncode if process.returncode >= 0 else 128 - process.returncode
            if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
                await asyncio.gather(*self._readers, return_exceptions=True)
                if self._log is not None:
                    self._log(name, b"".join(self._output[name]).decode())
                phase = "Failed" if code else "Succeeded"
                ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
                await self._tell(name, container_status(phase, {"terminated": ended}))
        elif not _is_ready(pod) and await _listens(pod["spec"]["containers"][0]):
            status = container_status("Running", {"running": {}})
            status["conditions"].append({"type": "Ready", "status": "True"})
            await self._tell(name, {**status, "podIP": HOST})

    async def _remove(self, name: str) -> None:
        if name in self.processes:
            process = self.processes.pop(name)
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.terminate()
                await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
            await _end(process)
        await self._cluster.delete(PODS, name)

    async def _tell(self, name: str, status: Json) -> None:
        if self._told.get(name) != status:
            await self._cluster.patch_status(PODS, name, status)
            self._told[name] = status

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdout is not None:
            while chunk := await process.stdout.read(65_536):
                self._output[name].append(chunk)

    async def _play_job_controller(self, pods: dict[str, Json]) -> None:
        jobs = (await self._cluster.list(JOBS, labels=FAMILY_LABEL)).items
        for job in jobs:
            own = [pod for pod in pods.values() if _owner_of(pod) == job["metadata"]["uid"]]
            phases = [pod.get("status", {}).get("phase") for pod in own]
            n_failed = phases.count("Failed")
            if "Succeeded" in phases:
                await self._conclude(job, "Complete", "")
            elif n_failed > job["spec"]["backoffLimit"]:
                await self._conclude(job, "Failed", "BackoffLimitExceeded")
            elif len(own) == n_failed and not self.makes_none:
                suffix = f"{job['metadata']['uid'][-4:]}{len(own)}"
                await self._cluster.create(PODS, pod_of(job, f"{_name(job)}-{suffix}"))
        present = {job["metadata"]["uid"] for job in jobs}
        for pod in pods.values():
            if _owner_of(pod) not in present:
                await self._cluster.delete(PODS, _name(pod))

    async def _conclude(self, job: Json, kind: str, reason: str) -> None:
        conditions = [{"type": kind, "status": "True", "reason": reason}]
        await self._cluster.patch_status(JOBS, _name(job), {"conditions": conditions})


def pod_of(job: Json, name: str, **status: Any) -> Json:
    """A Job's pod."""
    template = job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": _name(job), "controller": True}
    return {
        "metadata": {
            "name": name,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{**owner, "uid": job["metadata"]["uid"]}],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending", **status},
    }


def container_status(phase: str, state: Json) -> Json:
    """A scheduled pod's status with its container in this state."""
    return {
        "phase": phase,
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {
                "name": "reference",
                "image": "example.test/evaluator:1",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": state,
            }
        ],
    }


@contextlib.asynccontextmanager
async def small_node(
    cluster: Cluster, *, makes_pods: bool, log: Any = None
) -> AsyncIterator[SmallNode]:
    """A node that runs until the block ends."""
    node = SmallNode(cluster, makes_pods=makes_pods, log=log)
    running = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        running.cancel()
        # What ended it before is the test's failure, not a silence.
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _listens(container: Json) -> bool:
    port = container["readinessProbe"]["tcpSocket"]["port"]
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _unscheduled(message: str) -> Json:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"phase": "Pending", "conditions": [{**refused, "message": message}]}


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _owner_of(pod: Json) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return owners[0].get("uid")


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])
