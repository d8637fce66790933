"""The chart's pods as processes of this machine, registered in a fake or a real API server.

bench/kubelet runs the containers; here its pods become Pod objects with a status, as a kubelet and
the controller manager would keep them, and the controller gets the API server that its account may
use.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.kubelet.node import Node
from bench.kubelet.objects import Json, PodBody
from bench.kubelet.pod import Pod
from bench.kubelet.relays import Relay
from tests.builders.api_server import ApiServer, Authority, run_api_server
from tests.fakes.api_server import run_fake_api_server

_PROGRAMS = ("ip", "nsenter", "unshare", "setpriv", "mount")


def missing_for_pods() -> str | None:
    """Why pods cannot run on this machine, or None."""
    if os.geteuid() != 0:
        return "pods as processes need root (network and mount namespaces)"
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"pods as processes need {lacking}"
    # Root of a container may lack the right to make namespaces.
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"pods as processes: {tried.stderr.strip()}" if tried.returncode else None


class PodRegistrar:
    """Keeps a Pod object for each pod of a node."""

    def __init__(self, client: httpx.AsyncClient, namespace: str, *, is_real: bool) -> None:
        self._client, self._namespace, self._is_real = client, namespace, is_real

    async def created(self, body: PodBody) -> None:
        """As the workload's controller makes it, and the scheduler binds it."""
        pod = body.to_json()
        pod["spec"] = {**pod["spec"], "nodeName": "node-of-one-machine"}
        answer = await self._client.post(self._path(), json=pod)
        answer.raise_for_status()

    async def changed(self, pod: Pod) -> None:
        """Publish its status; the last one wins."""
        answer = await self._client.patch(
            f"{self._path(pod.body.name)}/status",
            json={"status": _status(pod)},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    async def leaving(self, pod: Pod) -> None:
        """As `kubectl delete pod`: the object stays, with the time of its deletion."""
        path = self._path(pod.body.name)
        grace = int(pod.body.spec["terminationGracePeriodSeconds"])
        if self._is_real:
            answer = await self._client.delete(path, params={"gracePeriodSeconds": grace})
        else:
            now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            marks = {"deletionTimestamp": now, "deletionGracePeriodSeconds": grace}
            answer = await self._client.patch(
                path,
                json={"metadata": marks},
                headers={"Content-Type": "application/merge-patch+json"},
            )
        answer.raise_for_status()

    async def gone(self, pod: Pod) -> None:
        """The kubelet's last word."""
        answer = await self._client.delete(
            self._path(pod.body.name), params={"gracePeriodSeconds": 0}
        )
        answer.raise_for_status()

    def _path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods" + (f"/{name}" if name else "")


def _status(pod: Pod) -> Json:
    return {
        "phase": "Failed" if pod.failure else "Running",
        "podIP": pod.where.address,
        "podIPs": [{"ip": pod.where.address}],
        "hostIP": pod.where.host_address,
        "conditions": [
            {"type": name, "status": "True" if value else "False"}
            for name, value in pod.conditions().items()
        ],
        "containerStatuses": [
            {**status, "state": {"running": {}}} for status in pod.container_statuses()
        ],
    }


@dataclass(frozen=True)
class Registry:
    """An API server that a node's pods are registered in."""

    server: ApiServer | None
    client: httpx.Client
    """An administrator's."""
    node: Node


@contextlib.contextmanager
def node_with_real_api_server(folder: Path, namespace: str) -> Iterator[Registry]:
    """A node, and an API server with RBAC and tokens of its own for the pods' accounts."""
    with run_api_server() as server:
        trust = _administrator(server, folder)
        registrar = PodRegistrar(
            httpx.AsyncClient(base_url=server.url, verify=trust, trust_env=False),
            namespace,
            is_real=True,
        )
        with (
            httpx.Client(base_url=server.url, verify=trust, trust_env=False) as client,
            Node(folder / "node", namespace=namespace, registrar=registrar) as node,
        ):

            def token(account: str, audience: str | None, seconds: int) -> str:
                spec: dict[str, Any] = {"expirationSeconds": seconds}
                spec |= {"audiences": [audience]} if audience else {}
                answer = client.post(
                    f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
                    json={
                        "apiVersion": "authentication.k8s.io/v1",
                        "kind": "TokenRequest",
                        "spec": spec,
                    },
                )
                answer.raise_for_status()
                return str(answer.json()["status"]["token"])

            port = httpx.URL(server.url).port
            assert port is not None
            node.add_api_server(port, server.authority.pem.decode(), token)
            yield Registry(server, client, node)


def _administrator(server: ApiServer, folder: Path) -> ssl.SSLContext:
    certificate, key = server.authority.issue("admin", ("system:masters",))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "admin.pem"
    file.write_bytes(certificate + key)
    trust = ssl.create_default_context(cadata=server.authority.pem.decode())
    trust.load_cert_chain(file)
    return trust


@contextlib.contextmanager
def node_with_fake_api_server(folder: Path, namespace: str) -> Iterator[Registry]:
    """The same on the fake: behind TLS as pods expect it, but without RBAC; any token will do."""
    authority = Authority()
    # The registrar's client is made before the server has a port.
    registrar = PodRegistrar(httpx.AsyncClient(trust_env=False), namespace, is_real=False)
    with (
        Node(folder / "node", namespace=namespace, registrar=registrar) as node,
        contextlib.ExitStack() as stack,
    ):
        servers = _fake_behind_tls(authority, folder)
        plain, port = node.call(anext(servers))
        stack.callback(lambda: node.call(_finish(servers)))
        registrar._client.base_url = httpx.URL(plain)
        client = stack.enter_context(httpx.Client(base_url=plain, trust_env=False))
        node.add_api_server(port, authority.pem.decode(), lambda account, _audience, _s: account)
        yield Registry(None, client, node)


async def _fake_behind_tls(authority: Authority, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Runs in the node's loop; yields the plain URL and the port with TLS."""
    tls = _server_side(authority, folder)
    async with run_fake_api_server() as fake:
        relay = Relay(lambda: [("127.0.0.1", fake.port)])
        port = await relay.start("127.0.0.1", 0, tls=tls)
        try:
            yield fake.url, port
        finally:
            await relay.close()


def _server_side(authority: Authority, folder: Path) -> ssl.SSLContext:
    certificate, key = authority.issue("kube-apiserver")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.pem").write_bytes(certificate + key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.pem")
    return tls


async def _finish(servers: AsyncIterator[Any]) -> None:
    async for _ in servers:
        raise AssertionError("it yields once")
