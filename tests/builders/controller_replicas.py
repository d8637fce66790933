"""Whole controller processes in a cluster (`python -m serving.kube`) on one PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from serving.kube.cluster import LEASES, Cluster, Kind
from serving.settings import ControllerSettings, KubernetesSettings
from tests.builders.api_server import free_port
from tests.builders.controller import ADMIN, bearer

ROLES = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
BINDINGS = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
LEASE = "fleet-controller"
ACCOUNT = "controller"
_READY_SECONDS = 120.0


async def let_lead(admin: Cluster) -> None:
    """Give the controllers' service account what leadership takes, and nothing more."""
    rules = [
        {
            "apiGroups": [LEASES.group],
            "resources": [LEASES.plural],
            "verbs": ["get", "create", "update"],
        }
    ]
    await admin.create(ROLES, {"metadata": {"name": ACCOUNT}, "rules": rules})
    await admin.create(
        BINDINGS,
        {
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": admin.namespace}],
        },
    )


@dataclass
class Replica:
    """One controller process."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    async def wait_ready(self) -> None:
        """Until it answers its API."""
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                text = self.log.read_text(errors="replace")
                assert self.process.poll() is None, f"{self.name} ended: {text[-2000:]}"
                with contextlib.suppress(httpx.TransportError):
                    if await self.is_ready():
                        return
                await asyncio.sleep(0.2)

    async def is_ready(self) -> bool:
        """As its readiness probe sees it."""
        return (await self._get("/readyz")).status_code == httpx.codes.OK

    async def leads(self) -> bool:
        """As its metrics say."""
        lines = (await self._get("/metrics")).text.splitlines()
        return "loraplane_leader 1.0" in lines

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
            return await client.get(self.url + path, headers=bearer(ADMIN))

    def kill(self) -> None:
        """As a node that burns."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """As a machine that is suspended: it does not know that time goes by."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """In good order, as a rolling update does."""
        self.process.terminate()
        self.process.wait(60)

    def close(self) -> None:
        """End it, in whatever state it is."""
        if self.process.poll() is None:
            self.thaw()
            self.kill()


@dataclass
class ReplicaSet:
    """Replicas of one fleet, made one by one."""

    folder: Path
    settings: ControllerSettings
    kubernetes: KubernetesSettings

    @contextlib.contextmanager
    def start(self, name: str) -> Iterator[Replica]:
        """One more; not ready yet."""
        port, log = free_port(), self.folder / f"{name}.log"
        environment = {
            **os.environ,
            **self.settings.to_environment(),
            **self.kubernetes.to_environment(),
            "LORAPLANE_CONTROLLER_PORT": str(port),
            "LORAPLANE_DATA_DIR": str(self.folder / name),
            "LORAPLANE_POD_NAME": name,
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.kube"],
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        replica = Replica(name, f"http://127.0.0.1:{port}", process, log)
        try:
            yield replica
        finally:
            replica.close()
