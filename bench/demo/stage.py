"""Where the demo plays: a `loraplane up` of its own, and the ways in which people use it.

Everything goes through the public surface: the command line, the OpenAI SDK, HTTP.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

FOLDER = Path(__file__).resolve().parents[2] / ".demo"
READY_SECONDS = 300.0
_PROFILE: dict[str, Any] = {
    # Fewer slots than adapters on purpose: the demo wants to show evictions.
    "gpu_slots": 3,
    "cpu_slots": 12,
    "max_rank": 16,
    "max_model_len": 1024,
    "max_num_batched_tokens": 512,
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_gib": 1,
}


class DemoFailed(Exception):
    """Something that the demo promises did not happen."""


def expect(is_true: bool, promise: str) -> None:
    """Fail the demo unless a promise was kept."""
    if not is_true:
        raise DemoFailed(promise)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a `loraplane` command ended with."""

    code: int
    output: dict[str, Any]
    said: str


@dataclass(slots=True)
class Stage:
    """One running `loraplane up`, and its users."""

    base: Path
    controller_port: int = 8400
    engine_port: int = 8500
    keys: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None

    @property
    def data_dir(self) -> Path:
        """Registry, artifacts, secrets, logs of this demo."""
        return FOLDER / "data"

    @property
    def controller_url(self) -> str:
        """Where the controller is."""
        return f"http://127.0.0.1:{self.controller_port}"

    @property
    def engine_url(self) -> str:
        """Where the engine is."""
        return f"http://127.0.0.1:{self.engine_port}"

    def open(self) -> None:
        """Start `loraplane up`; `wait_ready` says when it is."""
        self.data_dir.mkdir(parents=True)
        self.controller_port = _free_port(self.controller_port)
        self.engine_port = _free_port(self.engine_port)
        profile = FOLDER / "profile.yaml"
        profile.write_text(json.dumps(_PROFILE, indent=2))
        command = [
            *_LORAPLANE, "up", "--model", str(self.base), "--data-dir", str(self.data_dir),
            "--controller-port", str(self.controller_port),
            "--engine-port", str(self.engine_port), "--profile", str(profile),
        ]  # fmt: skip
        with (FOLDER / "up.log").open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                env=_environment(),
                start_new_session=True,
            )
        (FOLDER / "up.pid").write_text(str(self._process.pid))

    def wait_ready(self) -> None:
        """Wait until `loraplane up` says that adapters can be pushed and served."""
        deadline = time.monotonic() + READY_SECONDS
        while "ready controller=" not in (FOLDER / "up.log").read_text():
            process = self._process
            if process is not None and process.poll() is not None:
                raise DemoFailed(f"loraplane up ended with {process.returncode}: {_tail()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"not ready after {READY_SECONDS:.0f} s: {_tail()}")
            time.sleep(0.25)

    def close(self) -> None:
        """Stop everything, orderly."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(120)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def loraplane(self, *words: str, shows_progress: bool = False) -> Ran:
        """Run a `loraplane` command as an operator; its bars go to the terminal if asked."""
        environment = _environment(
            LORAPLANE_URL=self.controller_url,
            LORAPLANE_TOKEN=(self.data_dir / "admin-token").read_text().strip(),
        )
        ended = subprocess.run(
            [*_LORAPLANE, *words],
            stdout=subprocess.PIPE,
            stderr=None if shows_progress else subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
        text = ended.stdout.strip()
        output = json.loads(text) if text.startswith(("{", "[")) else {}
        return Ran(ended.returncode, output, text + (ended.stderr or ""))

    def must(self, *words: str, shows_progress: bool = False) -> Ran:
        """Run a command that has to succeed."""
        ran = self.loraplane(*words, shows_progress=shows_progress)
        expect(ran.code == 0, f"`loraplane {' '.join(words)}` ends with 0: {ran.said[-800:]}")
        return ran

    def version(self, name: str) -> dict[str, Any]:
        """A version as the API shows it."""
        return self.must("show", name, "--json").output

    def client(self, tenant: str) -> openai.OpenAI:
        """The OpenAI SDK with a tenant's key."""
        return openai.OpenAI(
            base_url=f"{self.engine_url}/v1", api_key=self.keys[tenant], max_retries=0, timeout=120
        )

    def status_of(self, tenant: str, model: str) -> tuple[int, dict[str, Any]]:
        """Plain HTTP: status and body of one short chat with a tenant's key."""
        response = httpx.post(
            f"{self.engine_url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {self.keys[tenant]}"},
            json={"model": model, "max_tokens": 4, "messages": [_user("Hello")]},
            timeout=60,
            trust_env=False,
        )
        return response.status_code, response.json()

    def counts(self) -> dict[str, dict[str, int]]:
        """Version -> loads, evictions and requests, as the engine's own caches counted them."""
        rows: dict[str, dict[str, int]] = self.must("top", "--json").output
        return rows


@dataclass(frozen=True, slots=True)
class Answer:
    """One chat answer and the version that it says it comes from."""

    model: str
    text: str


def ask(client: openai.OpenAI, model: str, prompt: str, *, stream: bool = False) -> Answer:
    """One greedy chat through the SDK."""
    options: dict[str, Any] = {"model": model, "messages": [_user(prompt)]}
    options.update(temperature=0, max_completion_tokens=40)
    if not stream:
        whole = client.chat.completions.create(**options)
        return Answer(whole.model, whole.choices[0].message.content or "")
    named = ""
    pieces: list[str] = []
    for chunk in client.chat.completions.create(**options, stream=True):
        named = chunk.model
        pieces.extend(choice.delta.content or "" for choice in chunk.choices)
    return Answer(named, "".join(pieces))


def stop_earlier_demo() -> None:
    """Stop the fleet that an earlier `make demo KEEP=1` left running."""
    try:
        pid = int((FOLDER / "up.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if b"serving.cli" not in words or str(FOLDER).encode() not in words:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)


_LORAPLANE = (sys.executable, "-m", "serving.cli")


def _user(text: str) -> Any:
    return {"role": "user", "content": text}


def _environment(**more: str) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LORAPLANE_")}
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "NO_PROXY": "127.0.0.1"}
    return {**kept, **quiet, **more}


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("there is no free port")


def _tail() -> str:
    logs = [FOLDER / "up.log", *sorted((FOLDER / "data" / "logs").glob("*.log"))]
    return "\n".join(
        f"== {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists()
    )
