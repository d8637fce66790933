"""What a replica in a cluster opens, by its settings."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serving.cli import processes
from serving.controller.app import create_app
from serving.kube.kinds import LEASES
from serving.kube.lease import LeaseLeadership
from serving.kube.surroundings import in_cluster
from serving.settings import KubernetesSettings, SettingInvalid
from tests.builders.api_server import kubeconfig_text
from tests.builders.controller import settings_in
from tests.fakes.api_objects import key_of
from tests.fakes.api_server import FakeApiServer, run_fake_api_server

DEADLINE_SECONDS = 60.0


@pytest.fixture
async def fake() -> AsyncIterator[FakeApiServer]:
    async with run_fake_api_server() as server:
        yield server


@pytest.fixture
async def settings(fake: FakeApiServer, tmp_path: Path) -> KubernetesSettings:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_text(fake.url, {"token": "t"}))
    return KubernetesSettings(
        kubernetes=True, namespace="fleet", pod_name="pod-1", lease_name="it", kubeconfig=kubeconfig
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"reference_runner": "thread"}, "LORAPLANE_REFERENCE_RUNNER"),
        ({"reference_runner": "job"}, "LORAPLANE_REFERENCE_JOB"),
    ],
)
def test_a_reference_that_cannot_be_is_refused_at_start(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingInvalid, match=name):
        in_cluster(KubernetesSettings(**changes))


def leads(app: FastAPI) -> bool:
    return b"loraplane_leader 1.0" in app.state.context.metrics.expose()


async def test_a_replica_leads_by_its_lease_and_gives_it_back(
    fake: FakeApiServer, settings: KubernetesSettings, tmp_path: Path
) -> None:
    key = key_of(LEASES, "fleet", "it")
    app = create_app(settings_in(tmp_path / "data"), surroundings=in_cluster(settings))

    async with app.router.lifespan_context(app):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not leads(app):  # noqa: ASYNC110 - polls what no event tells
                await asyncio.sleep(0.02)
        spec = fake.objects.get(key)["spec"]
        assert spec["holderIdentity"].startswith("pod-1_")
        assert spec["leaseTransitions"] == await app.state.context.repository.leadership.term()

    assert fake.objects.get(key)["spec"]["holderIdentity"] == ""


async def test_one_that_stands_by_is_ready_and_moves_nothing(
    fake: FakeApiServer, settings: KubernetesSettings, tmp_path: Path
) -> None:
    held = {"holderIdentity": "another", "leaseDurationSeconds": 3600, "leaseTransitions": 7}
    key = key_of(LEASES, "fleet", "it")
    await fake.objects.create(key, {"kind": "Lease", "metadata": {"name": "it"}, "spec": held})
    app = create_app(settings_in(tmp_path / "data"), surroundings=in_cluster(settings))

    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.2)
        assert app.state.is_loop_running()
        assert not leads(app)

    assert fake.objects.get(key)["spec"] == held


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["lora_adapters"]),
        ({"lora_adapters": False}, []),
        ({"engine_selector": "a=b"}, ["lora_adapters"]),
        ({"engine_selector": "a=b", "engine_statefulset": "e"}, ["lora_adapters", "engine_pods"]),
    ],
)
async def test_companions_are_what_the_settings_name(
    settings: KubernetesSettings, tmp_path: Path, changes: dict[str, Any], names: list[str]
) -> None:
    app = create_app(settings_in(tmp_path / "data"), has_loop=False)
    chosen = dataclasses.replace(settings, **changes)

    async with in_cluster(chosen)(app.state.context) as found:
        assert [companion.name for companion in found.companions] == names
        assert isinstance(found.leadership, LeaseLeadership)
        assert found.reference is None


@pytest.mark.parametrize(
    ("value", "module"),
    [(None, "serving.controller"), ("false", "serving.controller"), ("true", "serving.kube")],
)
def test_the_verb_becomes_the_controller_that_its_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch, value: str | None, module: str
) -> None:
    began: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: began.append(arguments))
    monkeypatch.delenv("LORAPLANE_KUBERNETES", raising=False)
    if value is not None:
        monkeypatch.setenv("LORAPLANE_KUBERNETES", value)

    processes.controller()

    assert began == [[sys.executable, "-m", module]]
