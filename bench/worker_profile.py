"""What an engine's worker does, by sampling its Python stacks from outside (py-spy, optional).

The matrix products themselves run below Python, in the frame that asked for them, so the shares are
of wall time and say which part of the engine asked. Threads that wait are not sampled.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.tuning.process_group import group_members

_PARTS = (
    ("products with adapters' weights", ("add_lora_linear", "plan_groups", "update_metadata")),
    ("copies into slots", ("activate_adapter", "set_lora", "_apply_adapters")),
    ("logits and sampling", ("compute_logits", "sample_tokens", "_sample", "sampler")),
    ("base model", ("forward",)),
    ("waiting for work", ("acquire_read", "dequeue", "wait_for_work", "recv")),
)
"""By the name of a function on the stack; the first part that has one of its names there wins."""
REST = "rest of the worker"
_RATE_HZ = 200


class ProfilerMissing(Exception):
    """py-spy is not installed, or may not look at the worker; the text says what to do."""


def sample_worker(leader: int, load: Callable[[], object], *, seconds: int) -> dict[str, float]:
    """Percent of the samples by what the worker does while `load` is repeated; they add up to 100.

    `leader` is the process that the engine was started as.

    Raises:
        ProfilerMissing: there is no py-spy, or it may not read the worker's memory.
    """
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise ProfilerMissing("py-spy is not installed: pip install -r requirements/dev.lock")
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks.txt"
        command = [
            program, "record", "--pid", str(worker_of(leader)), "--duration", str(seconds),
            "--rate", str(_RATE_HZ), "--format", "raw", "--output", str(stacks), "--nonblocking",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                load()
            told = (process.stdout.read() if process.stdout else b"").decode(errors="replace")
        if process.returncode or not stacks.exists():
            raise ProfilerMissing(f"py-spy could not sample the worker, run as root? {told[-500:]}")
        return shares(stacks.read_text())


def worker_of(leader: int, *, proc: Path = Path("/proc")) -> int:
    """Id of the process that computes: vLLM calls it `VLLM::Worker`, or the core where that does.

    Raises:
        ProfilerMissing: the group has neither.
    """
    titles = {pid: _title(proc / str(pid)) for pid in group_members(leader, proc=proc)}
    for wanted in ("VLLM::Worker", "VLLM::EngineCor"):
        for pid, title in sorted(titles.items()):
            if title.startswith(wanted):
                return pid
    raise ProfilerMissing(f"no worker of vLLM among the processes {titles}")


def shares(stacks: str) -> dict[str, float]:
    """Percent by part, of lines `frame;frame;frame count` from the outermost frame inwards."""
    counts: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames:
            counts[part_of(frames)] += int(count)
    return _percent(counts)


def part_of(frames: str) -> str:
    """Which part a stack belongs to."""
    functions = {frame.strip().partition(" ")[0] for frame in frames.split(";")}
    for part, names in _PARTS:
        if functions.intersection(names):
            return part
    return REST


def _percent(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    order = (*(part for part, _ in _PARTS), REST)
    return {part: 100 * counts[part] / total for part in order if counts.get(part)}


def _title(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""
