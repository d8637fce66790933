"""A real fleet for tests: `loraplane up` on a small base, and the calls that people make on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

READY_SECONDS = 240.0
_KEY_SECONDS = 30.0
_FINAL = {"live", "failed", "rejected", "inconclusive", "passed", "superseded", "retired"}

_QUICK_SUITE = [
    {"id": f"q{number}", "prompt": f"Guest {number} would like to", "max_tokens": 4}
    for number in range(8)
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Fleet:
    """One controller and one engine under a supervisor, all real processes."""

    base: Path
    data_dir: Path
    profile: dict[str, Any]
    options: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    controller_port: int = field(default_factory=free_port)
    engine_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def controller_url(self) -> str:
        return f"http://127.0.0.1:{self.controller_port}"

    @property
    def engine_url(self) -> str:
        return f"http://127.0.0.1:{self.engine_port}"

    def start(self) -> None:
        options = {
            "--model": str(self.base),
            "--data-dir": str(self.data_dir),
            "--controller-port": str(self.controller_port),
            "--engine-port": str(self.engine_port),
            "--profile": str(self.data_dir / "profile.yaml"),
            **self.options,
        }
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "profile.yaml").write_text(json.dumps(self.profile))
        with (self.data_dir / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "serving.cli", "up"),
                    *(word for pair in options.items() for word in pair),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "LORAPLANE_LOG_LEVEL": "info",
                    # Probes on a schedule would show in the exact counts of loads.
                    "LORAPLANE_PROBE_INTERVAL_SECONDS": "0",
                    # And so would adapters that are kept on purpose; tests of that switch it on.
                    "LORAPLANE_RESIDENCY_MODE": "off",
                    **self.environment,
                },
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"loraplane up ended:\n{self.logs()}")
            if self.answers(f"{self.controller_url}/readyz") and self.answers(
                f"{self.engine_url}/ready"
            ):
                return
            time.sleep(0.5)
        raise TimeoutError(f"not ready within {seconds} s:\n{self.logs()}")

    @staticmethod
    def answers(url: str) -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def logs(self) -> str:
        files = [self.data_dir / "up.log", *sorted((self.data_dir / "logs").glob("*.log"))]
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in files
            if path.exists()
        )

    @property
    def admin_token(self) -> str:
        return (self.data_dir / "admin-token").read_text().strip()

    def api(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """One call on the controller as administrator; the caller judges the answer."""
        return httpx.request(
            method,
            self.controller_url + path,
            headers={"Authorization": f"Bearer {self.admin_token}", **kwargs.pop("headers", {})},
            timeout=60,
            **kwargs,
        )

    def must(self, method: str, path: str, **kwargs: Any) -> Any:
        response = self.api(method, path, **kwargs)
        assert response.status_code < 300, (
            f"{method} {path}: {response.status_code} {response.text}"
        )
        return response.json() if response.content else None

    def tenant(self, name: str, **key_options: Any) -> str:
        """Make a tenant and return a key of it."""
        self.must("POST", "/v1/tenants", json={"id": name})
        return self.key(name, **key_options)

    def key(self, tenant: str, **options: Any) -> str:
        """Make a key and wait until the engine has heard of it: before that it answers 401."""
        body = {"name": "test", **options}
        key = str(self.must("POST", f"/v1/tenants/{tenant}/keys", json=body)["key"])
        deadline = time.monotonic() + _KEY_SECONDS
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.engine_url}/v1/models"
        while httpx.get(url, headers=headers, timeout=10).status_code == 401:
            assert time.monotonic() < deadline, f"the engine does not know {tenant}'s key"
            time.sleep(0.05)
        return key

    def push(self, name: str, folder: Path, **form: str) -> httpx.Response:
        """Upload a folder's files as a new version of `tenant/adapter`."""
        tenant, adapter = name.split("/")
        with contextlib.ExitStack() as stack:
            files = [
                (path.name, (path.name, stack.enter_context(path.open("rb"))))
                for path in sorted(folder.iterdir())
                if path.suffix in {".json", ".safetensors"}
            ]
            return self.api(
                "POST",
                f"/v1/tenants/{tenant}/adapters/{adapter}/versions",
                files=files,
                data=form,
            )

    def version(self, name: str, number: int) -> dict[str, Any]:
        tenant, adapter = name.split("/")
        answer = self.must("GET", f"/v1/tenants/{tenant}/adapters/{adapter}/versions/{number}")
        return dict(answer)

    def wait_state(
        self, name: str, number: int, wanted: set[str], seconds: float = 240
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        row: dict[str, Any] = {}
        while time.monotonic() < deadline:
            row = self.version(name, number)
            if row["state"] in wanted:
                return row
            if row["state"] in _FINAL:
                break
            time.sleep(0.2)
        raise AssertionError(f"{name}@{number} is {row}, not {wanted}\n{self.logs()[-6000:]}")

    def put_quick_suite(self, tenant: str) -> None:
        """A short suite `quick`, for tests that are about what comes after the gate."""
        suite = "\n".join(json.dumps(case) for case in _QUICK_SUITE)
        self.must("PUT", f"/v1/tenants/{tenant}/suites/quick", content=suite)

    def push_live(self, name: str, folder: Path) -> int:
        """Through the whole gate on a short suite."""
        self.put_quick_suite(name.split("/")[0])
        response = self.push(name, folder, promote="auto", suite="quick")
        assert response.status_code in (200, 202), response.text
        number = int(response.json()["version"])
        self.wait_state(name, number, {"live"})
        return number

    def ask(self, key: str, model: str | None, prompt: Any, **fields: Any) -> httpx.Response:
        body = {"prompt": prompt, "temperature": 0, "max_tokens": 12, **fields}
        if model is not None:
            body["model"] = model
        return httpx.post(
            f"{self.engine_url}/v1/completions",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
            timeout=120,
        )

    def answer(self, key: str, model: str, prompt: Any, **fields: Any) -> tuple[str, str]:
        """(resolved model, text) of one greedy completion."""
        response = self.ask(key, model, prompt, **fields)
        assert response.status_code == 200, response.text
        body = response.json()
        return str(body["model"]), str(body["choices"][0]["text"])

    def facts(self) -> dict[str, Any]:
        """What the worker itself counted."""
        (path,) = self.data_dir.rglob("worker-facts.json")
        return dict(json.loads(path.read_text()))

    def children(self, word: str) -> list[int]:
        """Pids of the supervised processes whose command line has the word."""
        pids = [path.read_text().strip() for path in (self.data_dir / "run").glob("*.pid")]
        return [
            int(pid)
            for pid in pids
            if word in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        ]

    def engine_pid(self) -> int:
        (pid,) = self.children("vllm.entrypoints")
        return pid

    def engine_command(self) -> tuple[list[str], dict[str, str]]:
        """How the running engine was started, to start it again without its supervisor."""
        folder = Path(f"/proc/{self.engine_pid()}")
        words = (folder / "cmdline").read_text().rstrip("\0").split("\0")
        pairs = (folder / "environ").read_text().rstrip("\0").split("\0")
        return words, dict(pair.split("=", 1) for pair in pairs)

    @staticmethod
    def wait_gone(pid: int) -> None:
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"{pid} is still there"
            time.sleep(0.05)

    @contextlib.contextmanager
    def only_engine(self, command: list[str], environment: dict[str, str]) -> Iterator[None]:
        """Run the engine alone until it is ready; no controller, no supervisor."""
        with (self.data_dir / "engine-alone.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not self.answers(f"{self.engine_url}/ready"):
                assert process.poll() is None, self.logs()
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.5)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextlib.contextmanager
def running(fleet: Fleet) -> Iterator[Fleet]:
    fleet.start()
    try:
        fleet.wait_ready()
        yield fleet
    finally:
        fleet.stop()
