"""A release of the chart that runs on this machine, and what people do with it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.kubelet.chart import CHART, CPU_PROFILE, helm, objects_of, render, value_options
from bench.kubelet.node import Node
from bench.kubelet.objects import Json
from tests.builders.kubelet import Registry

RELEASE, NAMESPACE = "loraplane", "fleet"
CONTROLLER, ENGINE, FRONT = (f"{RELEASE}-{name}" for name in ("controller", "engine", "front"))
_SECONDS = 120.0


@dataclass(frozen=True)
class ChartFleet:
    """An installed release and the node that runs its pods."""

    node: Node
    objects: list[Json]

    def secret(self, key: str) -> str:
        """A value of the release's Secret."""
        body = self.node.objects.find("Secret", f"{RELEASE}-secrets")
        assert body is not None
        return base64.b64decode(body["data"][key]).decode()

    def service_url(self, name: str) -> str:
        """A service by its cluster IP and first port."""
        service = self.node.objects.find("Service", name)
        assert service is not None
        return (
            f"http://{self.node.services.cluster_ips[name]}:{service['spec']['ports'][0]['port']}"
        )

    def cli(self, *words: str, expect: int = 0) -> str:
        """Run `loraplane` as the administrator; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "serving.cli", *words],
            env={
                **os.environ,
                "LORAPLANE_URL": self.service_url(CONTROLLER),
                "LORAPLANE_TOKEN": self.secret("admin-token"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, f"{words}: {done.stdout}{done.stderr}\n{self.node.logs()}"
        return done.stdout

    def api(self, path: str) -> Any:
        """What the controller says at a path, as the administrator sees it."""
        answer = httpx.get(
            self.service_url(CONTROLLER) + path,
            headers={"Authorization": f"Bearer {self.secret('admin-token')}"},
            timeout=_SECONDS,
            trust_env=False,
        )
        answer.raise_for_status()
        return answer.json()

    def tenant(self, name: str) -> str:
        """Make a tenant; a key of it, once every engine knows that."""
        self.cli("tenant", "create", name)
        key = str(json.loads(self.cli("key", "create", name, "--json"))["key"])
        engines = [pod.where.address for pod in self.node.pods_of(ENGINE)]
        self.node.wait_until(
            lambda: all(_knows(address, key) for address in engines), seconds=_SECONDS
        )
        return key


def _knows(address: str, key: str) -> bool:
    answer = httpx.get(
        f"http://{address}:8500/v1/models",
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
        trust_env=False,
    )
    return answer.status_code == httpx.codes.OK


def install(registry: Registry, folder: Path, values: Mapping[str, Any]) -> ChartFleet:
    """Install the chart with the CPU profile and start what it asks for.

    With a real API server it is `helm install`, and the pods are those of the release's manifest;
    the fake one has neither schemas nor RBAC, so there it is `helm template`.
    """
    node = registry.node
    if registry.server is None:
        objects = render(
            RELEASE, namespace=NAMESPACE, files=[CPU_PROFILE], values=values, folder=folder
        )
    else:
        # Helm's own caches and settings stay out of the home folder.
        environment = {
            **os.environ,
            "KUBECONFIG": str(registry.server.kubeconfig()),
            **{f"HELM_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA")},
        }
        where = ["--namespace", NAMESPACE]
        options = value_options([CPU_PROFILE], values, folder)
        helm("install", RELEASE, str(CHART), *where, *options, environment=environment)
        objects = objects_of(helm("get", "manifest", RELEASE, *where, environment=environment))
    node.apply(objects)
    return ChartFleet(node, objects)
