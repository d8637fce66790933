"""The real engine of the engine contract: it pulls from the desired state that a test writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.fixtures.base_model import tiny_base
from tests.builders.engine_fleet import Fleet, tenants_on
from tests.e2e.fleet import READY_SECONDS, free_port
from tests.fakes.engine_under_test import (
    SECRET,
    EngineUnderTest,
    desired_state,
    fake_engine_under_test,
)

PROFILE = {
    "gpu_slots": 4,
    "cpu_slots": 16,
    "max_rank": 8,
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_batched_tokens": 256,
    "kv_cache_gib": 1,
    "enforce_eager": True,
}


@pytest.fixture(scope="session")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineUnderTest]:
    """A real vLLM server with our plugin, started once for all modules."""
    folder = tmp_path_factory.mktemp("real-engine")
    profile = folder / "profile.json"
    profile.write_text(json.dumps({**PROFILE, "model": str(tiny_base())}))
    port = free_port()
    with desired_state(folder) as (desired, controller):
        environment = {
            **os.environ,
            "LORAPLANE_PROFILE": str(profile),
            "LORAPLANE_CLUSTER_SECRET": SECRET,
            "LORAPLANE_CONTROLLER_URL": controller,
            "LORAPLANE_ENGINE_DIR": str(folder / "engine"),
            "LORAPLANE_ENGINE_PORT": str(port),
            "LORAPLANE_REPORT_SECONDS": "0.5",
        }
        with (folder / "engine.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "engine"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_ready(process, url)
            yield EngineUnderTest(url, desired, tiny_base(), folder / "artifacts")
        finally:
            process.terminate()
            process.wait(90)


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the engine ended while it was starting"
        try:
            if httpx.get(f"{url}/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"not ready within {READY_SECONDS} s")


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The fake takes a second to start, the real one about 45."""
    if request.param == "real":
        yield request.getfixturevalue("real_engine")
        return
    with fake_engine_under_test(tmp_path_factory.mktemp("fake")) as made:
        yield made


@pytest.fixture
def fleet(engine: EngineUnderTest, tmp_path: Path) -> Iterator[Fleet]:
    yield from tenants_on(engine, tmp_path)


@pytest.fixture
def real_fleet(real_engine: EngineUnderTest, tmp_path: Path) -> Iterator[Fleet]:
    """For what the fake engine does not claim: caches that evict, and memory."""
    yield from tenants_on(real_engine, tmp_path)
