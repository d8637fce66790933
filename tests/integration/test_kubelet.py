"""The small kubelet of bench/kubelet, on pods that are a few lines of Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.kubelet.node import Node, NodeFailed
from tests.builders.kubelet import missing_for_pods

pytestmark = pytest.mark.skipif(
    missing_for_pods() is not None, reason=missing_for_pods() or "pods can run"
)
_SECONDS = 60.0
_SERVER = """
import http.server, json, os, pathlib, signal, socket, sys, time
pathlib.Path("/data/started").open("a").write("x")
sick = pathlib.Path("/scratch/sick")
def leave(*_):
    pathlib.Path("/data/ended").write_text("by SIGTERM")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path == "/ready" and sick.exists() else 200)
        self.end_headers()
        facts = {"name": os.environ["NAME"], "pid": os.getpid(), "host": socket.gethostname()}
        self.wfile.write(json.dumps(facts).encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8500), Answer).serve_forever()
"""


def container(**more: Any) -> dict[str, Any]:
    """With these fields; one that is None is left out."""
    full = {
        "name": "server",
        "image": "example/server:1",
        "command": ["python3", "-c", _SERVER],
        "ports": [{"name": "http", "containerPort": 8500}],
        "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": "http"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "id -u > /data/hook"]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "shape", "mountPath": "/etc/shape"},
            # A link on most machines, and an absolute one.
            {"name": "shape", "mountPath": "/var/run/loraplane-shape"},
        ],
        **more,
    }
    return {name: value for name, value in full.items() if value is not None}


def stateful_set(**more: Any) -> dict[str, Any]:
    spec = {
        "terminationGracePeriodSeconds": 20,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10002,
        },
        "containers": [container(**more)],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "shape", "configMap": {"name": "shape"}},
        ],
    }  # fmt: skip
    return {
        "kind": "StatefulSet",
        "metadata": {"name": "engine"},
        "spec": {
            "replicas": 2,
            "serviceName": "engine",
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "template": {"metadata": {"labels": {"app": "engine"}}, "spec": spec},
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    selector = {"app": "engine"}
    return {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": selector, **spec}}


OBJECTS = [
    {"kind": "ConfigMap", "metadata": {"name": "shape"}, "data": {"slots": "8"}},
    service("engine", clusterIP="None", ports=[{"port": 8500}]),
    service("engines", ports=[{"port": 80, "targetPort": "http"}]),
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "node", namespace="fleet") as started:
        yield started


def facts_of(node: Node, url: str) -> dict[str, Any]:
    """As a container of pod engine-0 sees it."""
    code = f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())"
    status, output = node.run_in("engine-0", ["python3", "-c", code])
    assert status == 0, output
    return dict(json.loads(output))


def test_pods_find_each_other_by_name_and_through_a_cluster_ip(node: Node) -> None:
    node.apply([*OBJECTS, stateful_set()])
    node.wait_ready(seconds=_SECONDS)

    assert facts_of(node, "http://engine-1.engine:8500")["name"] == "engine-1"
    assert facts_of(node, "http://engine-1.engine.fleet.svc.cluster.local:8500")["pid"] == 1
    seen = {facts_of(node, "http://engines.fleet.svc")["host"] for _ in range(4)}
    assert seen == {"engine-0", "engine-1"}


def test_a_container_is_its_user_on_a_root_that_it_cannot_write(node: Node) -> None:
    node.apply([*OBJECTS, stateful_set()])
    node.wait_ready(seconds=_SECONDS)

    code = "id -u; id -G; cat /etc/shape/slots; echo; touch /scratch/ok && touch /etc/written"
    status, output = node.run_in("engine-0", ["sh", "-c", code])

    assert output.splitlines()[:3] == ["10001", "10001 10002", "8"]
    assert status != 0
    assert "Read-only file system" in output
    assert not Path("/etc/written").exists()


def test_volumes_are_mounted_in_the_container_and_nowhere_on_the_machine(node: Node) -> None:
    node.apply([*OBJECTS, stateful_set()])
    node.wait_ready(seconds=_SECONDS)

    status, output = node.run_in("engine-0", ["cat", "/var/run/loraplane-shape/slots"])

    assert (status, output) == (0, "8")
    assert not Path("/var/run/loraplane-shape").exists()
    assert not Path("/scratch").exists()


def test_an_unready_pod_leaves_every_service_and_comes_back(node: Node) -> None:
    node.apply([*OBJECTS, stateful_set()])
    node.wait_ready(seconds=_SECONDS)
    addresses = {pod.body.name: pod.where.address for pod in node.pods_of("engine")}

    node.run_in("engine-1", ["touch", "/scratch/sick"])
    node.wait_until(lambda: not node.pods["engine-1"].is_ready, seconds=_SECONDS)

    names = "engine.fleet.svc.cluster.local"
    assert node.services.addresses(names) == [addresses["engine-0"]]
    assert node.services.addresses(f"engine-1.{names}") is None
    assert {facts_of(node, "http://engines")["host"] for _ in range(3)} == {"engine-0"}

    node.run_in("engine-1", ["rm", "/scratch/sick"])
    node.wait_until(lambda: node.pods["engine-1"].is_ready, seconds=_SECONDS)
    assert set(node.services.addresses(names) or ()) == set(addresses.values())


def test_a_deleted_pod_runs_its_hook_gets_sigterm_and_comes_back_with_its_claim(node: Node) -> None:
    node.apply([*OBJECTS, stateful_set()])
    node.wait_ready(seconds=_SECONDS)
    before = node.pods["engine-0"]
    claim = node.claims["data-engine-0"]

    node.delete_pod("engine-0")
    left = {path.name: path.read_text() for path in claim.iterdir()}
    node.wait_ready(seconds=_SECONDS)

    assert (left["ended"], left["hook"].strip()) == ("by SIGTERM", "10001")
    assert node.pods["engine-0"].where.address != before.where.address
    assert (claim / "started").read_text() == "xx"
    assert not Path(f"/proc/{before.containers['server'].pid}").exists()


def test_a_pod_that_does_not_end_is_killed_when_its_grace_period_is_over(node: Node) -> None:
    # Process 1 without a handler gets no SIGTERM, as in every container.
    node.apply(
        [*OBJECTS, stateful_set(command=["sleep", "600"], lifecycle=None, readinessProbe=None)]
    )
    node.wait_ready(seconds=_SECONDS)
    pid = node.pods["engine-0"].containers["server"].pid

    node.delete_pod("engine-0", grace_seconds=1)

    assert not Path(f"/proc/{pid}").exists()


def test_a_failing_liveness_probe_restarts_the_container(node: Node) -> None:
    sick = {"exec": {"command": ["test", "!", "-e", "/scratch/sick"]}, "periodSeconds": 1}
    node.apply([*OBJECTS, stateful_set(livenessProbe={**sick, "failureThreshold": 1})])
    node.wait_ready(seconds=_SECONDS)

    node.run_in("engine-0", ["touch", "/scratch/sick"])
    node.wait_until(lambda: node.pods["engine-0"].n_restarts > 0, seconds=_SECONDS)

    assert node.pods["engine-1"].n_restarts == 0


def test_a_pod_that_cannot_start_says_why(node: Node) -> None:
    broken = stateful_set(env=[{"name": "NAME", "valueFrom": {"secretKeyRef": {
        "name": "absent", "key": "token"}}}])  # fmt: skip

    node.apply([*OBJECTS, broken])

    with pytest.raises(NodeFailed, match="Secret absent"):
        node.wait_ready(seconds=_SECONDS)


def run_pods_in_a_test_that_fails(folder: Path) -> None:
    with Node(folder / "node") as node:
        node.apply([*OBJECTS, stateful_set()])
        node.wait_ready(seconds=_SECONDS)
        pids = [pod.containers["server"].pid for pod in node.pods_of("engine")]
        facts = {"bridge": node.network.bridge, "subnet": str(node.network.subnet), "pids": pids}
        (folder / "facts.json").write_text(json.dumps(facts))
        raise RuntimeError("a failing test")


def shown(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_nothing_is_left_of_a_node_when_a_test_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a failing test"):
        run_pods_in_a_test_that_fails(tmp_path)

    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["bridge"] not in shown("ip", "link")
    assert facts["subnet"] not in shown("ip", "route")
    assert f"lpn{os.getpid()}x" not in shown("ip", "netns")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert [pid for pid in facts["pids"] if Path(f"/proc/{pid}").exists()] == []
