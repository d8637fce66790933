"""vLLM alone and our engine side by side on one base, both with the timers of `asgi_timing`.

Instead of ours, the engine of an earlier revision of our sources can stand there, so that before
and after are measured one after the other. Its sources come out of git; the timers are today's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.base_folder import find_base_folder
from adapters.base_model import read_base_model
from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.cache import REPOSITORY
from bench.overhead_figures import ALONE, BEFORE, OURS
from bench.server import (
    Server,
    bare_command,
    bare_environment,
    free_port,
    running_server,
    wait_ready,
)
from serving.engine.launch import prepare_launch
from serving.engine.profile import EngineProfile
from serving.settings import EngineSettings
from serving.tuning.rig import OnStage
from serving.tuning.rig_files import ADAPTER, write_rig_files

TIMES_VARIABLE = "LORAPLANE_BENCH_TIMES"
_OUTER = ["--middleware", "bench.asgi_timing.Outer"]
_INNER = ["--middleware", "bench.asgi_timing.Inner"]
_RANK = 8


@dataclass(frozen=True, slots=True)
class Side:
    """One server; `times` is what its timers write."""

    name: str
    url: str
    key: str
    times: Path


@dataclass(frozen=True, slots=True)
class _Started:
    side: Side
    server: Server
    log: Path
    ready: str


@contextmanager
def running_sides(
    profile: EngineProfile, folder: Path, *, revision: str | None, on_stage: OnStage
) -> Iterator[list[Side]]:
    """vLLM alone and ours, of our sources now or of a git revision.

    Raises:
        ServerFailed: one of them did not come up.
        CalledProcessError: git does not know the revision.
    """
    with ExitStack() as stack:
        name, tree = OURS, REPOSITORY
        if revision is not None:
            name, tree = BEFORE, stack.enter_context(_checked_out(revision, folder / "tree"))
        sources = _sources(folder / "sources", tree)
        started = [
            stack.enter_context(_alone(profile, folder)),
            stack.enter_context(_ours(name, profile, folder / "ours", sources)),
        ]
        # Started side by side: an engine mostly reads and imports until it is ready.
        for one in started:
            wait_ready(one.server, one.log, ready=one.ready, on_stage=on_stage)
        yield [one.side for one in started]


@contextmanager
def _alone(profile: EngineProfile, folder: Path) -> Iterator[_Started]:
    base = find_base_folder(profile.model)
    (adapter,) = make_random_adapters(1, base=base, folder=folder / "adapters", rank=_RANK)
    port, times = free_port(), folder / "alone.jsonl"
    url = f"http://127.0.0.1:{port}"
    command = bare_command(profile, port=port, modules={ADAPTER: adapter})
    command += [*_INNER, *_OUTER]
    environment = {
        **bare_environment(profile),
        **_timed(times),
        **_imports(_sources(folder / "alone", REPOSITORY)),
    }
    log = folder / "alone.log"
    with running_server(command, environment, url=url, log=log, ready=None) as server:
        yield _Started(Side(ALONE, url, "none", times), server, log, "/health")


@contextmanager
def _ours(name: str, profile: EngineProfile, folder: Path, sources: Path) -> Iterator[_Started]:
    card = read_base_model(find_base_folder(profile.model))
    files = write_rig_files(
        folder, profile, card, n_adapters=1, rank=_RANK, fleet="base", on_progress=lambda _n: None
    )
    port, times = free_port(), folder / "times.jsonl"
    settings = EngineSettings(
        engine_dir=files.engine_dir, cluster_secret=files.cluster_secret, engine_port=port,
        controller_url=None, profile=files.profile, probe_interval_seconds=0.0,
    )  # fmt: skip
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("LORAPLANE_")}
    launch = prepare_launch(settings, inherited)
    command = with_timers(launch.command)
    environment = {**launch.environment, **_timed(times), **_imports(sources)}
    url = f"http://127.0.0.1:{port}"
    log = folder / "engine.log"
    with running_server(command, environment, url=url, log=log, ready=None) as server:
        yield _Started(Side(name, url, files.keys[0], times), server, log, "/ready")


def with_timers(command: list[str]) -> list[str]:
    """The command with a timer before our middleware and one behind it.

    The middleware that is named last sees a request first.
    """
    place = command.index("--middleware")
    return [
        *command[:place], *_INNER, *command[place : place + 2], *_OUTER, *command[place + 2 :],
    ]  # fmt: skip


def _timed(times: Path) -> Mapping[str, str]:
    return {TIMES_VARIABLE: str(times)}


def _imports(sources: Path) -> Mapping[str, str]:
    # Safe path: else `python -m` would take them from the folder that we were started in.
    return {"PYTHONPATH": str(sources), "PYTHONSAFEPATH": "1"}


def _sources(folder: Path, tree: Path) -> Path:
    """A folder to import from: our packages as they are in `tree`, the bench's as it is here."""
    folder.mkdir(parents=True)
    for package in ("serving", "adapters"):
        (folder / package).symlink_to(tree / package)
    (folder / "bench").symlink_to(REPOSITORY / "bench")
    return folder


@contextlib.contextmanager
def _checked_out(revision: str, folder: Path) -> Iterator[Path]:
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)
