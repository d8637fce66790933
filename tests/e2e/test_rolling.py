"""Rolling the engines of a fleet whose upgrades the gate decides: a new build comes, another goes.

One fleet for all: the second engine that the gate lets in is the one that is drained.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.contract import engine_token
from tests.e2e.conftest import PROFILE
from tests.e2e.fleet import READY_SECONDS, Fleet, free_port, running

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
PROMPTS = [f"Parcel {number} goes to" for number in range(4)]
N_STREAMS, STREAMED_TOKENS, LEAVE_SECONDS = 4, 450, 3.0
"""The streams outlast the time in which new requests are let in."""
ASK_EVERY_SECONDS = 1.0


@dataclass
class OneMore:
    """An engine beside the supervised one, as another pod of the fleet would be."""

    fleet: Fleet
    name: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **differs: str) -> None:
        _, inherited = self.fleet.engine_command()
        own = {
            "ENGINE_ID": self.name, "ENGINE_PORT": str(self.port), "ADVERTISE_URL": self.url,
            "ENGINE_DIR": str(self.fleet.data_dir / "engines" / self.name),
        }  # fmt: skip
        named = {f"LORAPLANE_{name}": value for name, value in (own | differs).items()}
        self.environment = inherited | named
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "engine"],
                env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def log(self) -> Path:
        return self.fleet.data_dir / "logs" / f"{self.name}.log"

    def stop(self) -> int:
        """SIGTERM, and what the process ends with."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    def shown(self) -> dict[str, Any] | None:
        """What the controller says of it."""
        response = self.fleet.api("GET", f"/v1/engines/{self.name}")
        return dict(response.json()) if response.status_code == 200 else None

    def wait(self, is_so: Callable[[], object], seconds: float = 2 * READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert self.process is None or self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, f"{self.shown()}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.1)

    def ask(self, key: str, prompt: str, **fields: Any) -> httpx.Response:
        body = {"model": "support", "prompt": prompt, "temperature": 0, "max_tokens": 8, **fields}
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}/v1/completions", json=body, headers=headers, timeout=120)

    def drain_state(self) -> dict[str, Any]:
        token = engine_token(self.environment["LORAPLANE_CLUSTER_SECRET"])
        headers = {"Authorization": f"Bearer {token}"}
        return dict(httpx.get(f"{self.url}/loraplane/v1/drain", headers=headers, timeout=30).json())


@pytest.fixture(scope="module")
def rolling(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    profile = {**PROFILE, "gpu_slots": 3, "cpu_slots": 12}
    environment = {"LORAPLANE_UPGRADE": "gate"}
    folder = tmp_path_factory.mktemp("rolling")
    with running(Fleet(base, folder, profile, environment=environment)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def key(rolling: Fleet, adapters: list[Path]) -> str:
    """Of a tenant with one live adapter, `support`."""
    made = rolling.tenant("acme")
    rolling.push_live("acme/support", adapters[0])
    return made


@pytest.fixture(scope="module")
def newer(rolling: Fleet, key: str) -> Iterator[OneMore]:
    """The same software in another image."""
    engine = OneMore(rolling, "engine-newer")
    engine.start(ENGINE_BUILD_LABEL="next")
    try:
        yield engine
    finally:
        engine.stop()


def test_a_new_build_takes_no_tenant_before_the_gate_has_measured_what_is_live_on_it(
    rolling: Fleet, key: str, newer: OneMore
) -> None:
    known = [rolling.answer(key, "support", prompt, max_tokens=8) for prompt in PROMPTS]
    seen = set()

    def is_ready() -> bool:
        # Who the older engine serves is served all the while, now and then: asked without a pause
        # it would leave the other no processor to start on.
        assert rolling.answer(key, "support", PROMPTS[0], max_tokens=8) == known[0]
        time.sleep(ASK_EVERY_SECONDS)
        shown = newer.shown()
        if shown is None:
            return False
        seen.add(shown["state"])
        if shown["state"] == "waiting_for_gate":
            response = newer.ask(key, PROMPTS[0])
            if response.status_code != 200:  # It may have been let in since.
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "waiting_for_gate"
                assert int(response.headers["retry-after"]) > 0
        return Fleet.answers(f"{newer.url}/ready")

    newer.wait(is_ready)

    assert "waiting_for_gate" in seen
    row = rolling.version("acme/support", 1)
    assert row["recheck"]["verdict"] == "PASS"
    assert row["recheck"]["reason"]["changed"] == ["engine_build"]
    assert row["recheck"]["reason"]["now"]["engine_build"].endswith(" / next")
    answers = [newer.ask(key, prompt).json() for prompt in PROMPTS]
    assert [(one["model"], one["choices"][0]["text"]) for one in answers] == known


class Streams:
    """Several streamed answers at once; each must end whole."""

    def __init__(self, engine: OneMore, key: str) -> None:
        self.begun = threading.Barrier(N_STREAMS + 1)
        self.ends: list[tuple[int, str | None, bool]] = []
        self._threads = [
            threading.Thread(target=self._read, args=(engine, key, n)) for n in range(N_STREAMS)
        ]
        for thread in self._threads:
            thread.start()
        self.begun.wait(60)

    def _read(self, engine: OneMore, key: str, number: int) -> None:
        body = {
            "model": "support", "prompt": PROMPTS[number], "max_tokens": STREAMED_TOKENS,
            "ignore_eos": True, "stream": True,
        }  # fmt: skip
        n_tokens, reason, is_done = 0, None, False
        with httpx.stream(
            "POST", f"{engine.url}/v1/completions", json=body,
            headers={"Authorization": f"Bearer {key}"}, timeout=120,
        ) as response:  # fmt: skip
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    is_done = True
                elif line.startswith("data: "):
                    (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                    n_tokens, reason = n_tokens + 1, choice["finish_reason"] or reason
                    if n_tokens == 1:
                        self.begun.wait(60)
        self.ends.append((n_tokens, reason, is_done))

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)


class Arrivals(threading.Thread):
    """New requests all the time, from somebody who has not noticed yet."""

    def __init__(self, engine: OneMore, key: str) -> None:
        super().__init__(daemon=True)
        self.engine, self.key = engine, key
        self.answers: list[tuple[float, int, str | None]] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            asked_at = time.monotonic()
            response = self.engine.ask(self.key, PROMPTS[0], max_tokens=1)
            retry_after = response.headers.get("retry-after")
            self.answers.append((asked_at, response.status_code, retry_after))
            self.stopping.wait(0.05)


def test_a_drained_engine_loses_nothing_and_then_ends(
    rolling: Fleet, key: str, newer: OneMore
) -> None:
    newer.wait(lambda: Fleet.answers(f"{newer.url}/ready"))
    streams, arrivals = Streams(newer, key), Arrivals(newer, key)
    arrivals.start()
    command = [sys.executable, "-m", "serving.cli", "drain", "--json"]
    draining = subprocess.Popen(
        [*command, "--leave-seconds", str(LEAVE_SECONDS), "--timeout", "90"],
        env=newer.environment, stdout=subprocess.PIPE,
    )  # fmt: skip
    newer.wait(lambda: newer.drain_state()["state"] != "serving", 60)
    left_at = time.monotonic()

    assert not Fleet.answers(f"{newer.url}/ready")
    newer.wait(lambda: (newer.shown() or {}).get("state") == "stopping", 30)
    newer.wait(lambda: newer.drain_state()["state"] == "draining", 60)
    assert newer.drain_state()["in_flight"] > 0, "the streams outlast the leave window"
    said = json.loads(draining.communicate(timeout=120)[0])
    arrivals.stopping.set()
    arrivals.join(60)
    streams.join()

    assert (draining.returncode, said["drained"], said["in_flight"]) == (0, True, 0)
    assert [end[1:] for end in streams.ends] == [("length", True)] * N_STREAMS
    codes = [code for _, code, _ in arrivals.answers]
    assert codes == sorted(codes), "once closed it stays closed"
    assert set(codes) == {200, 503}
    assert any(at > left_at and code == 200 for at, code, _ in arrivals.answers)
    assert {wait for _, code, wait in arrivals.answers if code == 503} == {"1"}
    assert newer.stop() in (0, -signal.SIGTERM)
    assert rolling.answer(key, "support", PROMPTS[0])[0] == "acme/support@1"


def test_an_engine_with_another_base_stays_out_and_says_why(
    rolling: Fleet, key: str, tmp_path: Path
) -> None:
    engine = OneMore(rolling, "engine-other-base")
    engine.start(MODEL=str(_other_base(rolling.base, tmp_path / "other")))
    try:
        engine.wait(lambda: (engine.shown() or {}).get("state") == "waiting_for_gate")

        shown = engine.shown()
        assert shown is not None
        assert "this controller's gate measures against" in shown["gate"]["not_measurable"]
        assert not Fleet.answers(f"{engine.url}/ready")
        assert engine.ask(key, PROMPTS[0]).status_code == 503
        cleared = {"reason": "the test knows better"}
        rolling.must("POST", f"/v1/engines/{engine.name}/clear", json=cleared)
        engine.wait(lambda: Fleet.answers(f"{engine.url}/ready"))
        assert engine.ask(key, PROMPTS[0]).json()["model"] == "acme/support@1"
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.stop()


def _other_base(base: Path, folder: Path) -> Path:
    """The same weights, normed otherwise: another model."""
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((base / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    return folder
