"""A real engine of a given profile for as long as a `with` block lasts, without a controller.

The neighbour `rig_files` writes what the engine finds in its folder. The engine is started as
`loraplane engine` starts it and asked from outside; nothing of it is left when the block ends.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from adapters.base_folder import find_base_folder
from adapters.base_model import read_base_model
from serving.engine.launch import prepare_launch
from serving.engine.profile import EngineProfile, ProfileInvalid
from serving.settings import EngineSettings
from serving.tuning.generator import Model, Target
from serving.tuning.process_group import (
    PID_FILE,
    end_group,
    end_on_sigterm,
    resident_bytes,
    wait_for_earlier,
)
from serving.tuning.rig_files import ADAPTER, RigFiles, engine_dir_of, write_rig_files

READY_SECONDS = 900.0
"""A cold 70B base from a network disk takes minutes."""
FLEET = "base"
_GUARD = "serving.cli.guard"
"""Started, not imported: it ends the engine, and frees its GPU, also when we are killed."""
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.25
_TAIL_LINES = 30
LOG = "engine.log"
"""Within the folder that an engine is given."""
_EMPTY: Mapping[str, str] = MappingProxyType({})
_COUNTS = ("loads_disk", "loads_cache", "evictions_slot", "evictions_cache", "removals", "failures")
_HINTS = (
    (r"out of memory|No available memory|Cannot allocate memory|MemoryError",
     "It found too little memory: fewer slots, a lower max_rank, max_num_seqs or KV cache."),
    (r"[Aa]ddress already in use",
     "Another process took its port at this moment: start again."),
    (r"larger than the maximum number of tokens|max_model_len|KV cache is needed",
     "max_model_len does not fit: lower it, or give the KV cache more memory."),
    (r"No module named 'vllm'|No module named vllm",
     "vLLM is not installed here: run this where the engine's image or `loraplane[cpu]` is."),
)  # fmt: skip
"""What vLLM's log says only in words, and what to do."""

OnStage = Callable[[str, float], None]
"""Gets what the rig is doing, and for how many seconds already."""


class EngineFailed(Exception):
    """The engine did not come up; `cause`, the log's last lines and a `hint` say why."""

    def __init__(self, problem: str, *, log: Path, tail: str, cause: str, hint: str) -> None:
        self.problem, self.log, self.tail, self.cause, self.hint = problem, log, tail, cause, hint
        parts = [f"{problem}{': ' + cause if cause else '.'}", hint, f"Its log: {log}"]
        super().__init__("\n".join(filter(None, parts)))


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine that runs."""

    target: Target
    """Its adapters, in order."""
    base: Model
    """The bare base model, for the first tenant's key."""
    profile: EngineProfile
    pid: int
    """Of the process that leads the group of all the engine's processes."""
    engine_dir: Path
    log: Path
    started_seconds: float
    """From the start of the process to its first `ready`."""
    cluster_secret: str = field(repr=False)

    @property
    def resident_bytes(self) -> int:
        """Memory of all of its processes; pages that they share count once."""
        return resident_bytes(self.pid)

    def facts(self) -> dict[str, Any]:
        """What its worker published last (`worker-facts.json`); empty before the first load."""
        try:
            facts = json.loads((self.engine_dir / "run" / "worker-facts.json").read_text())
        except FileNotFoundError:
            return {}
        return dict(facts)

    def counts(self) -> dict[str, int]:
        """Loads, evictions, removals and failures since its start, summed over adapters."""
        adapters = self.facts().get("adapters", {}).values()
        return {name: sum(int(one.get(name, 0)) for one in adapters) for name in _COUNTS}


@contextmanager
def running_engine(
    profile: EngineProfile,
    *,
    n_adapters: int,
    folder: Path,
    rank: int = 8,
    port: int | None = None,
    environment: Mapping[str, str] = _EMPTY,
    on_stage: OnStage | None = None,
) -> Iterator[Target]:
    """As `started_engine`, for who needs no more than to ask it."""
    with started_engine(
        profile,
        n_adapters=n_adapters,
        folder=folder,
        rank=rank,
        port=port,
        environment=environment,
        on_stage=on_stage,
    ) as engine:
        yield engine.target


@contextmanager
def started_engine(
    profile: EngineProfile,
    *,
    n_adapters: int,
    folder: Path,
    rank: int = 8,
    port: int | None = None,
    environment: Mapping[str, str] = _EMPTY,
    on_stage: OnStage | None = None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[Engine]:
    """An engine of this profile on 127.0.0.1 with `n_adapters` synthetic adapters, all proven.

    `folder` keeps the log (`engine.log`) and the adapters' store, which a second start uses again.
    `port` None: a free one. `environment` wins over what the process inherits. Without adapters
    the target's only model is the base.

    Raises:
        EngineFailed: it ended, was not ready within `ready_seconds`, or another has the folder.
        ProfileInvalid: the profile has no place for adapters of this rank.
        BaseModelError: the base cannot be read.
        OSError: the folder cannot be written.
    """
    if rank > profile.max_rank:
        raise ProfileInvalid("max_rank", f"{profile.max_rank} has no place for rank {rank}")
    say = on_stage or _silent
    folder = folder.absolute()
    card = read_base_model(find_base_folder(profile.model))
    _take_folder(folder, say)
    started = time.monotonic()
    files = write_rig_files(
        folder, profile, card, n_adapters=n_adapters, rank=rank, fleet=FLEET,
        on_progress=lambda done: say(
            f"adapter {done} of {n_adapters} written", time.monotonic() - started
        ),
    )  # fmt: skip
    port, log = port or _free_port(), folder / LOG
    with end_on_sigterm(), _process(files, port, environment, log) as process:
        seconds = _wait_ready(process, port, log, say, ready_seconds)
        base = Model(FLEET, files.keys[0])
        models = tuple(Model(ADAPTER, key) for key in files.keys) if n_adapters else (base,)
        yield Engine(
            target=Target(f"http://127.0.0.1:{port}", models, vocabulary=card.vocab_size),
            base=base,
            profile=profile,
            pid=process.pid,
            engine_dir=files.engine_dir,
            log=log,
            started_seconds=seconds,
            cluster_secret=files.cluster_secret,
        )


def _take_folder(folder: Path, say: OnStage) -> None:
    if (pid := wait_for_earlier(engine_dir_of(folder), say)) is not None:
        problem = f"Another engine, process {pid}, runs in {folder}"
        hint = "End it, or name another folder."
        raise EngineFailed(problem, log=folder / LOG, tail="", cause="", hint=hint)


@contextmanager
def _process(
    files: RigFiles, port: int, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    settings = EngineSettings(
        engine_dir=files.engine_dir,
        engine_id="rig",
        controller_url=None,
        cluster_secret=files.cluster_secret,
        engine_port=port,
        profile=files.profile,
        fleet=FLEET,
        # What a probe on a schedule loads would be counted, and timed, as traffic.
        probe_interval_seconds=0.0,
    )
    # Settings of the place where the rig runs are another engine's.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LORAPLANE_")}
    launch = prepare_launch(settings, inherited)
    guard = [sys.executable, "-m", _GUARD, str(files.engine_dir / PID_FILE), "--"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*guard, *launch.command],
            env={**launch.environment, **environment},
            stdin=subprocess.PIPE,  # Held open; that it closes tells the guard of our death.
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process, seconds=_STOP_SECONDS)


def _wait_ready(
    process: subprocess.Popen[bytes], port: int, log: Path, say: OnStage, ready_seconds: float
) -> float:
    started = time.monotonic()
    while True:
        seconds = time.monotonic() - started
        say("engine starting", seconds)
        if _is_ready(port):
            return seconds
        if (code := process.poll()) is not None:
            raise _failure(f"The engine ended with code {code} before it was ready", log)
        if seconds > ready_seconds:
            raise _failure(f"The engine was not ready after {seconds:.0f} s", log)
        time.sleep(_POLL_SECONDS)


def _is_ready(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK


def _failure(problem: str, log: Path) -> EngineFailed:
    text = log.read_text(errors="replace")
    tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
    cause, hint = explain_log(text)
    return EngineFailed(problem, log=log, tail=tail, cause=cause, hint=hint)


def explain_log(text: str) -> tuple[str, str]:
    """(first error that a log names, what to do about it); empty where it names none.

    The first, because vLLM's later ones only say that an earlier one happened.
    """
    errors = re.findall(r"\b\w*(?:Error|Exception|Invalid|Missing|NotTested): .+", text)
    cause = errors[0].strip()[:500] if errors else ""
    told = "\n".join(errors) or text[-4000:]
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, told)), "")
    return cause, hint


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _silent(_stage: str, _seconds: float) -> None:
    return
