"""`python -m serving.cli.guard PIDFILE -- COMMAND...`: no orphan survives, however anybody dies.

One guard stands between the supervisor and each child. It adopts the child's orphaned descendants
(subreaper), so when the child ends, whatever it left running is ended too: vLLM's worker processes
above all. When the supervisor is killed, the guard's standard input closes and the guard ends its
child. Linux only; standard library only, so that it starts at once and stays small.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
KILL_NOW = signal.SIGUSR1
"""Asks the guard to kill its child, and all that it started, at once."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, KILL_NOW)
_GRACE_SECONDS = 20.0
"""Between asking a child to end because the supervisor died, and killing it. Under vLLM's usual
drain it would be cut short; but then nobody is left to send it requests on purpose."""
_LEFTOVER_SECONDS = 5.0
_DYING_SECONDS = 10.0
"""For what was killed to be gone. It runs no code of its own any more, and whoever waits for the
child to start again shall not wait for the kernel to take its memory back."""
_TICK_SECONDS = 0.1
_LIFE_LINE = 0


def main(arguments: list[str]) -> int:
    """Run the command under guard; its exit code, or 128 + the signal that ended it."""
    pid_file, dashes, *command = arguments
    if dashes != "--" or not command:
        raise SystemExit("usage: python -m serving.cli.guard PIDFILE -- COMMAND...")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wakeup = _wake_on_signals()
    # Blocked until there is a child to pass them on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare_child)
    Path(pid_file).write_text(f"{child.pid}\n")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: child.send_signal(got))
    signal.signal(KILL_NOW, lambda _got, _frame: child.kill())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    code = _watch(child, wakeup)
    Path(pid_file).unlink(missing_ok=True)
    _end_leftovers()
    return code if code >= 0 else 128 - code


def _wake_on_signals() -> int:
    """A file that becomes readable with each signal, a child's end among them."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _got, _frame: None)
    return read_end


def descendants(pid: int) -> list[int]:
    """Every process below `pid` now, children before grandchildren, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent, state = _parent_and_state(entry)
            if state != "Z":
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found.extend(below)
        queue.extend(below)
    return found


def _watch(child: subprocess.Popen[bytes], wakeup: int) -> int:
    """Wait for the child's end; asleep but for a dead process or a dead supervisor."""
    deadline: float | None = None
    while not _reap(child):
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        watched = [wakeup] if deadline is not None else [wakeup, _LIFE_LINE]
        ready, _, _ = select.select(watched, [], [], timeout)
        if wakeup in ready:
            os.read(wakeup, 4096)
        # The supervisor holds the other end of our standard input and never writes to it.
        if _LIFE_LINE in ready and os.read(_LIFE_LINE, 1) == b"":
            child.terminate()
            deadline = time.monotonic() + _GRACE_SECONDS
        if deadline is not None and time.monotonic() >= deadline:
            child.kill()
            deadline = time.monotonic() + _GRACE_SECONDS
    return child.wait()


def _reap(child: subprocess.Popen[bytes]) -> bool:
    """Bury adopted processes that have ended; whether the child itself has."""
    while True:
        # Looked at before it is waited for: the child's own exit belongs to Popen.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        if ended.si_pid == child.pid:
            return True
        os.waitpid(ended.si_pid, 0)


def _end_leftovers() -> None:
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    number = signal.SIGTERM
    while left := descendants(os.getpid()):
        if time.monotonic() > deadline + _DYING_SECONDS:
            return
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        time.sleep(_TICK_SECONDS)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return


def _parent_and_state(entry: Path) -> tuple[int, str]:
    try:
        # The command's name stands in parentheses and may hold anything: split after the last one.
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1, "Z"
    return int(fields[1]), fields[0]


def _prepare_child() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
