"""kill -9 at any moment loses nothing that was acknowledged, and everything converges by itself."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import PROFILE
from tests.e2e.fleet import Fleet, running

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]
N_CONTROLLER_KILLS, N_ENGINE_KILLS = 30, 5
PROMPTS = [f"Order {number} contains" for number in range(4)]
SETTLED = {"live", "superseded"}


@pytest.fixture(scope="module")
def own_fleet(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    profile = {**PROFILE, "gpu_slots": 3, "cpu_slots": 12}
    options = {"--restart-seconds": "1"}
    with running(Fleet(base, tmp_path_factory.mktemp("crash"), profile, options)) as fleet:
        yield fleet


class Uploader(threading.Thread):
    """Pushes adapters over and over; remembers what was acknowledged."""

    def __init__(self, fleet: Fleet, tenant: str, adapters: list[Path]) -> None:
        super().__init__(daemon=True)
        self.fleet, self.tenant, self.adapters = fleet, tenant, adapters
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self.stopping.is_set():
            name = f"{self.tenant}/a{turn % 4}"
            folder = self.adapters[turn % len(self.adapters)]
            with contextlib.suppress(httpx.TransportError):
                response = self.fleet.push(name, folder, promote="auto", suite="quick")
                if response.status_code in (200, 202):
                    body = response.json()
                    self.acknowledged[name, body["version"]] = body["digest"]
                    turn += 1
            self.stopping.wait(0.2)


class Asker(threading.Thread):
    """Asks for pinned versions all the time; an answer must be the known one, an error may be."""

    def __init__(self, fleet: Fleet, key: str, known: dict[tuple[str, str], str]) -> None:
        super().__init__(daemon=True)
        self.fleet, self.key, self.known = fleet, key, known
        self.n_right, self.wrong, self.n_errors = 0, [], 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            for (model, prompt), text in self.known.items():
                try:
                    response = self.fleet.ask(self.key, model, prompt)
                except httpx.TransportError:
                    self.n_errors += 1
                    self.stopping.wait(0.2)
                    continue
                if response.status_code != 200:
                    self.n_errors += 1
                    continue
                body = response.json()
                if body["choices"][0]["text"] == text and body["model"].endswith(model):
                    self.n_right += 1
                else:
                    self.wrong.append((model, prompt, body))
                # Without it the engine leaves no processor to what starts again.
                self.stopping.wait(0.1)


def known_answers(fleet: Fleet, key: str, models: list[str]) -> dict[tuple[str, str], str]:
    return {
        (model, prompt): fleet.answer(key, model, prompt)[1]
        for model in models
        for prompt in PROMPTS
    }


def test_a_controller_killed_thirty_times_loses_no_acknowledged_upload(
    own_fleet: Fleet, adapters: list[Path]
) -> None:
    key = own_fleet.tenant("crash")
    own_fleet.push_live("crash/steady", adapters[15])
    known = known_answers(own_fleet, key, ["steady@1"])
    uploader = Uploader(own_fleet, "crash", adapters[:12])
    asker = Asker(own_fleet, key, known)
    uploader.start()
    asker.start()
    draw = random.Random(30)

    for _ in range(N_CONTROLLER_KILLS):
        wait_for_controller(own_fleet)
        time.sleep(draw.uniform(0.0, 2.5))
        for pid in own_fleet.children("serving.controller"):
            os.kill(pid, signal.SIGKILL)
    uploader.stopping.set()
    uploader.join(60)
    wait_for_controller(own_fleet)

    assert len(uploader.acknowledged) >= 5, "the uploads must have gone on between the kills"
    for (name, number), digest in uploader.acknowledged.items():
        assert own_fleet.version(name, number)["digest"] == digest
        row = own_fleet.wait_state(name, number, SETTLED | {"passed"}, seconds=400)
        if row["state"] == "passed":
            # Its gate ended after a later version's, and nothing is promoted backwards.
            wait_for_newer_live(own_fleet, name, number)
    asker.stopping.set()
    asker.join(60)
    assert (asker.wrong, asker.n_errors) == ([], 0)
    assert asker.n_right > 20


def wait_for_newer_live(fleet: Fleet, name: str, number: int) -> None:
    tenant, adapter = name.split("/")
    deadline = time.monotonic() + 400
    while (fleet.must("GET", f"/v1/tenants/{tenant}/adapters/{adapter}")["live"] or 0) <= number:
        assert time.monotonic() < deadline, f"{name}@{number} was held back for nothing"
        time.sleep(0.5)


def wait_for_controller(fleet: Fleet) -> None:
    deadline = time.monotonic() + 60
    while not fleet.answers(f"{fleet.controller_url}/readyz"):
        assert time.monotonic() < deadline, fleet.logs()
        time.sleep(0.1)


def test_an_engine_killed_five_times_under_traffic_gives_no_wrong_answer(
    own_fleet: Fleet, adapters: list[Path]
) -> None:
    key = own_fleet.tenant("crash-engine")
    for index in range(3):
        own_fleet.push_live(f"crash-engine/a{index}", adapters[index])
    known = known_answers(own_fleet, key, [f"a{index}@1" for index in range(3)])
    asker = Asker(own_fleet, key, known)
    asker.start()
    draw = random.Random(5)

    for _ in range(N_ENGINE_KILLS):
        own_fleet.wait_ready()
        n_right = asker.n_right
        time.sleep(draw.uniform(0.5, 2.0))
        (pid,) = own_fleet.children("vllm.entrypoints")
        os.kill(pid, signal.SIGKILL)
        own_fleet.wait_gone(pid)
    own_fleet.wait_ready()
    time.sleep(2)
    asker.stopping.set()
    asker.join(120)

    assert asker.wrong == []
    assert asker.n_right > n_right
    assert known_answers(own_fleet, key, [f"a{index}@1" for index in range(3)]) == known


def test_a_restarted_engine_serves_without_any_controller(
    own_fleet: Fleet, adapters: list[Path]
) -> None:
    key = own_fleet.tenant("alone")
    own_fleet.push_live("alone/support", adapters[5])
    known = own_fleet.answer(key, "support", PROMPTS[0])
    command, environment = own_fleet.engine_command()
    own_fleet.stop()

    with own_fleet.only_engine(command, environment):
        assert not own_fleet.answers(f"{own_fleet.controller_url}/healthz")
        assert own_fleet.answer(key, "support", PROMPTS[0]) == known
