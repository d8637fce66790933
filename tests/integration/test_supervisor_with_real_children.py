"""The supervisor with real, small Python processes as children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.cli.supervisor import Backoff, ChildSpec, Supervisor, wait_until

QUICK = Backoff(first=0.05, longest=0.2, healthy_after=30.0)


def child(name: str, code: str, *, stop_order: int = 0, stop_seconds: float = 10.0) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=[sys.executable, "-c", textwrap.dedent(code)],
        environment={"SAID": "hello from the supervisor"},
        stop_order=stop_order,
        stop_seconds=stop_seconds,
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until(check: Callable[[], bool], *, seconds: float = 20.0) -> None:
    async def checked() -> bool:
        return check()

    await asyncio.wait_for(wait_until(checked), seconds)


async def run_until(supervisor: Supervisor, check: Callable[[], bool]) -> None:
    running = asyncio.create_task(supervisor.run())
    try:
        await until(check)
    finally:
        supervisor.stop()
        await asyncio.wait_for(running, 30)


SLEEPER = "import time; time.sleep(600)"


async def test_a_child_gets_its_environment_and_writes_to_its_own_log(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['SAID'], flush=True); time.sleep(600)"
    log = tmp_path / "logs" / "talker.log"
    supervisor = Supervisor(specs=[child("talker", code)], data_dir=tmp_path, say=lambda _: None)

    await run_until(supervisor, lambda: log.exists() and "hello" in log.read_text())

    assert log.read_text() == "hello from the supervisor\n"


async def test_a_dead_child_is_started_again_and_the_death_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    specs = [child("crasher", "import sys; sys.exit(7)"), child("other", SLEEPER)]
    supervisor = Supervisor(specs=specs, data_dir=tmp_path, say=said.append, backoff=QUICK)

    await run_until(supervisor, lambda: len(said) >= 3)

    assert supervisor.n_restarts("crasher") >= 3
    assert supervisor.n_restarts("other") == 0
    assert "crasher ended with code 7" in said[0]


async def test_a_stop_lets_children_finish_their_work_engines_before_the_controller(
    tmp_path: Path,
) -> None:
    diary = tmp_path / "diary"
    code = f"""
        import pathlib, signal, sys, time
        def end(*_):
            time.sleep(0.3)
            with open({str(diary)!r}, "a") as file:
                file.write("NAME\\n")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path({str(tmp_path)!r}, "NAME.up").touch()
        time.sleep(600)
    """
    specs = [
        child("controller", code.replace("NAME", "controller"), stop_order=1),
        child("engine", code.replace("NAME", "engine")),
    ]
    supervisor = Supervisor(specs=specs, data_dir=tmp_path, say=lambda _: None)

    await run_until(
        supervisor,
        lambda: all((tmp_path / f"{name}.up").exists() for name in ("controller", "engine")),
    )

    assert diary.read_text().split() == ["engine", "controller"]


async def test_a_child_that_ignores_the_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)
    """
    log, said = tmp_path / "logs" / "deaf.log", list[str]()
    specs = [child("deaf", code, stop_seconds=0.5)]
    supervisor = Supervisor(specs=specs, data_dir=tmp_path, say=said.append)
    started = time.monotonic()

    await run_until(supervisor, lambda: log.exists() and "deaf" in log.read_text())

    assert time.monotonic() - started < 15
    assert "deaf did not end in" in said[0]
    assert not (tmp_path / "run" / "deaf.pid").exists()


FORKER = """
    import pathlib, subprocess, sys, time
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                              start_new_session=True)
    pathlib.Path({path!r}).write_text(str(worker.pid))
    time.sleep(600)
"""


async def test_a_killed_child_leaves_no_worker_behind(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    specs = [child("forker", FORKER.format(path=str(path)))]
    slow = Backoff(first=60.0, longest=60.0)
    said: list[str] = []
    supervisor = Supervisor(specs=specs, data_dir=tmp_path, say=said.append, backoff=slow)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: path.exists() and path.read_text() != "")
    worker = int(path.read_text())

    os.kill(int((tmp_path / "run" / "forker.pid").read_text()), signal.SIGKILL)
    await until(lambda: bool(said))

    assert "code 137" in said[0]
    assert not is_alive(worker)
    supervisor.stop()
    await asyncio.wait_for(running, 30)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_supervisor_dies_nothing_of_its_tree_survives(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "worker.pid"
    code = textwrap.dedent(FORKER.format(path=str(path)))
    program = f"""
import asyncio, sys
from pathlib import Path
from serving.cli.supervisor import ChildSpec, Supervisor
command = [sys.executable, "-c", {code!r}]
spec = ChildSpec(name="forker", command=command, environment={{}})
async def main():
    supervisor = Supervisor(specs=[spec], data_dir=Path({str(tmp_path)!r}), say=print)
    supervisor.stop_on_signals()
    await supervisor.run()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, "the child never started its worker"
        time.sleep(0.05)
    worker, forker = int(path.read_text()), int((tmp_path / "run" / "forker.pid").read_text())

    process.send_signal(number)
    process.wait(timeout=60)

    deadline = time.monotonic() + 60
    while (is_alive(worker) or is_alive(forker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
    assert not is_alive(forker)
