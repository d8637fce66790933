"""The chart's own containers, run on this machine: they find each other, serve, and drain.

Real are the commands, environment, files, users, probes and hooks that the chart renders, the
engines (vLLM), Envoy with its rendered configuration and, where `KUBEBUILDER_ASSETS` names one, the
API server with `helm install`, RBAC and the accounts' tokens; else a fake one. Only the images are
this machine (bench/kubelet).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import tiny_base
from bench.kubelet.chart import model_folder
from bench.kubelet.pod import Pod
from tests.builders.api_server import find_assets
from tests.builders.chart_fleet import CONTROLLER, ENGINE, FRONT, NAMESPACE, ChartFleet, install
from tests.builders.front_load import Passed, read_front_log, send_until
from tests.builders.kubelet import (
    Registry,
    missing_for_pods,
    node_with_fake_api_server,
    node_with_real_api_server,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2400)]
_TENANTS = ("acme", "globex", "initech")
_N_TOKENS = 48
_READY_SECONDS = 900.0
_SUITE = [
    {"id": f"q{number}", "prompt": f"Guest {number} would like to", "max_tokens": 4}
    for number in range(8)
]


def _values(base: Path) -> dict[str, object]:
    """Over the CPU profile: a tiny model, and shorter waits than a cluster needs."""
    often = {"startup": {"periodSeconds": 1}, "readiness": {"periodSeconds": 1}}
    return {
        "model": {"source": "hostPath", "hostPath": {"path": str(base)}},
        "engine": {
            "replicas": 2,
            "profile": {"max_model_len": 512, "max_num_batched_tokens": 256},
            "drain": {"leaveSeconds": 6},
            # Two engines share the cores here; each would bind its thread to the same one.
            "extraEnv": [
                {"name": "VLLM_CPU_OMP_THREADS_BIND", "value": "nobind"},
                {"name": "OMP_NUM_THREADS", "value": "1"},
            ],
            "probes": often,
        },
        "controller": {"settings": {"gate_repeats": 2}, "probes": often},
        "front": {"mode": "envoy", "replicas": 1},
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the node that the pods' user can read."""
    return model_folder(tiny_base(), tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    missing = missing_for_pods()
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("chart")
    is_real = find_assets() is not None
    make = node_with_real_api_server if is_real else node_with_fake_api_server
    with make(folder, NAMESPACE) as registry:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        registry.client.post("/api/v1/namespaces", json=body).raise_for_status()
        yield registry


@pytest.fixture(scope="module")
def fleet(registry: Registry, base: Path, tmp_path_factory: pytest.TempPathFactory) -> ChartFleet:
    """Installed, and every pod ready."""
    installed = install(registry, tmp_path_factory.mktemp("release"), _values(base))
    installed.node.wait_ready(seconds=_READY_SECONDS)
    return installed


@pytest.fixture(scope="module")
def keys(fleet: ChartFleet, base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each tenant's key; its adapter `support` has come live through the gate."""
    folder = tmp_path_factory.mktemp("adapters")
    adapters = make_random_adapters(len(_TENANTS), base=base, folder=folder, rank=8, strength=0.5)
    suite = folder / "quick.jsonl"
    suite.write_text("\n".join(json.dumps(case) for case in _SUITE))
    keys = {tenant: fleet.tenant(tenant) for tenant in _TENANTS}
    for tenant, adapter in zip(_TENANTS, adapters, strict=True):
        words = ["--tenant", tenant, "--adapter", "support", "--suite", str(suite)]
        fleet.cli("push", str(adapter), *words, "--wait")
    return keys


def test_a_pushed_adapter_goes_through_the_gate_to_live_and_answers_through_the_front(
    fleet: ChartFleet, keys: dict[str, str]
) -> None:
    answers = {
        tenant: httpx.post(
            f"{fleet.service_url(FRONT)}/v1/completions",
            json={"model": "support", "prompt": "Hello", "max_tokens": 4},
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        ).json()["model"]
        for tenant, key in keys.items()
    }

    assert answers == {tenant: f"{tenant}/support@1" for tenant in _TENANTS}
    for tenant in _TENANTS:
        report = fleet.api(f"/v1/tenants/{tenant}/adapters/support/versions/1/report")
        assert report["verdict"] == "PASS"
    engines = {engine["id"]: engine["state"] for engine in fleet.api("/v1/engines")["engines"]}
    assert engines == {f"{ENGINE}-0": "ready", f"{ENGINE}-1": "ready"}


def test_the_controller_leads_by_the_lease_that_its_account_may_write(
    registry: Registry, fleet: ChartFleet
) -> None:
    (pod,) = fleet.node.pods_of(CONTROLLER)

    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{CONTROLLER}"
    lease = registry.client.get(path).raise_for_status().json()

    assert lease["spec"]["holderIdentity"].startswith(f"{pod.body.name}_")


@pytest.mark.parametrize("workload", [CONTROLLER, ENGINE, FRONT])
def test_the_containers_run_without_rights_on_a_root_that_they_cannot_write(
    fleet: ChartFleet, workload: str
) -> None:
    pod = fleet.node.pods_of(workload)[0].body.name
    code = "cat /proc/1/status; touch /etc/written /usr/written /written"

    status, output = fleet.node.run_in(pod, ["sh", "-c", code])

    facts = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == ["10001"] * 4
    assert int(facts["CapBnd"], 16) == int(facts["CapEff"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"
    assert (status != 0, output.count("Read-only file system")) == (True, 3)
    assert fleet.node.pods[pod].n_restarts == 0


async def test_draining_one_of_two_engines_under_traffic_loses_no_request(
    fleet: ChartFleet, keys: dict[str, str]
) -> None:
    stop = asyncio.Event()
    url = fleet.service_url(FRONT)
    load = asyncio.create_task(send_until(stop, url, keys, per_second=4, n_tokens=_N_TOKENS))
    async with _stopped_at_the_end(stop, load):
        leaving = await asyncio.to_thread(_busiest_engine, fleet)
        began_at = time.time()
        await asyncio.to_thread(fleet.node.delete_pod, leaving.body.name)
        gone_at = time.time()
        await asyncio.to_thread(fleet.node.wait_ready, ENGINE, seconds=_READY_SECONDS)
        back = fleet.node.pods[leaving.body.name]
        await asyncio.to_thread(_wait_used, fleet, back)
    fates = await load

    lost = [fate for fate in fates if not fate.is_whole(f"{fate.tenant}/support@1", _N_TOKENS)]
    assert lost == []
    assert {(fate.tenant, fate.is_stream) for fate in fates} == {
        (tenant, is_stream) for tenant in _TENANTS for is_stream in (True, False)
    }
    passed = await asyncio.to_thread(_all_passed, fleet, len(fates))
    on_leaving = [each for each in passed if each.engine == leaving.where.address]
    # It had requests in flight when it was told to leave, and finished every one of them.
    assert [each for each in on_leaving if each.began_at < began_at < each.ended_at]
    assert {each.status for each in on_leaving} == {200}
    assert all(each.ended_at <= gone_at + 1 for each in on_leaving)
    assert [status for status, _ in leaving.hook_results] == [0]
    assert back.where.address != leaving.where.address


@contextlib.asynccontextmanager
async def _stopped_at_the_end(stop: asyncio.Event, load: asyncio.Task[object]):  # type: ignore[no-untyped-def]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait({load})


def _front_log(fleet: ChartFleet) -> list[Passed]:
    (pod,) = fleet.node.pods_of(FRONT)
    (container,) = pod.containers.values()
    return read_front_log(container.log)


def _busiest_engine(fleet: ChartFleet) -> Pod:
    """Once the front has handed on some twenty requests."""
    engines = {pod.where.address: pod for pod in fleet.node.pods_of(ENGINE)}
    counts: Counter[str] = Counter()

    def is_known() -> bool:
        counts.clear()
        counts.update(each.engine for each in _front_log(fleet)[-40:] if each.status == 200)
        return counts.total() >= 40

    fleet.node.wait_until(is_known, seconds=120)
    return engines[counts.most_common(1)[0][0]]


def _wait_used(fleet: ChartFleet, pod: Pod) -> None:
    fleet.node.wait_until(
        lambda: any(each.engine == pod.where.address for each in _front_log(fleet)), seconds=120
    )


def _all_passed(fleet: ChartFleet, n_sent: int) -> list[Passed]:
    fleet.node.wait_until(lambda: len(_front_log(fleet)) >= n_sent, seconds=60)
    return _front_log(fleet)
