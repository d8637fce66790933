"""kill -9 of a process that puts artifacts: what it acknowledged is there, nothing half there."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.durable import SCRATCH_PREFIX
from adapters.store import ArtifactStore

PROGRAM = """
import asyncio, sys, pathlib
from adapters.manifest import CONFIG_FILE, TENSOR_FILE, manifest_of_folder
from adapters.durable import SCRATCH_PREFIX
from adapters.store import ArtifactStore

async def main(root, work):
    store = ArtifactStore.from_url(root.as_uri())
    for number in range(100_000):
        folder = work / str(number)
        folder.mkdir()
        (folder / CONFIG_FILE).write_text(str(number))
        (folder / TENSOR_FILE).write_bytes(bytes([number % 256]) * 300_000)
        print(await store.put(manifest_of_folder(folder), folder), flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
"""


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_acknowledged_before_a_kill_is_there(seed: int, tmp_path: Path) -> None:
    root = tmp_path / "store"
    acknowledged = await asyncio.to_thread(_put_until_killed, root, tmp_path / "work", seed)

    store = ArtifactStore.from_url(root.as_uri())
    listed = {digest async for digest in store.list()}

    assert acknowledged
    assert acknowledged <= listed
    for digest in listed:
        await store.fetch(digest, tmp_path / "engine")
    assert not list(root.glob(f"{SCRATCH_PREFIX}*"))


def _put_until_killed(root: Path, work: Path, seed: int) -> set[str]:
    work.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(root), str(work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = child.stdout.readline().decode().strip()
        # The moment within a put is arbitrary on purpose; the seed spreads the moments.
        time.sleep(random.Random(seed).uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().decode().split()
    # The last line may be cut off; then it was not acknowledged.
    return {line for line in [first, *lines] if len(line) == len(first)}
