"""How fast artifacts arrive at a controller, against what the disk below it can take."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.control_plane.process import ADMIN, RunningController

CONFIG = b'{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}'
TENANT = "uploads"
_N_TRIES = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """`n` artifacts, one file of weights and one of settings each, in `seconds`."""

    n: int
    n_bytes: int
    seconds: float

    @property
    def versions_per_second(self) -> float:
        """Artifacts per second."""
        return self.n / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes per second."""
        return self.n_bytes / self.seconds / 1e6


def draw_weights(n: int, size_bytes: int) -> list[bytes]:
    """Different bytes for each: equal ones would be one artifact, stored once."""
    return [os.urandom(size_bytes) for _ in range(n)]


async def upload_all(controller: RunningController, weights: list[bytes], *, width: int) -> Rate:
    """Push each as a new adapter's first version, `width` at a time, until all are acknowledged.

    What is refused, because the registry is too busy, is sent again as any client would.
    """
    headers = {"Authorization": f"Bearer {ADMIN}"}
    mark = os.urandom(4).hex()
    queue = iter(enumerate(weights))

    async def work(client: httpx.AsyncClient) -> None:
        for number, content in queue:
            files = [
                ("adapter_config.json", ("adapter_config.json", CONFIG)),
                ("adapter_model.safetensors", ("adapter_model.safetensors", content)),
            ]
            path = f"/v1/tenants/{TENANT}/adapters/a{mark}{number}/versions"
            for _ in range(_N_TRIES):
                answer = await client.post(path, files=files)
                if not answer.is_server_error:
                    break
                await asyncio.sleep(0.5)
            answer.raise_for_status()

    async with httpx.AsyncClient(
        base_url=controller.url, headers=headers, timeout=180, trust_env=False
    ) as client:
        tenant = {"id": TENANT, "display_name": TENANT}
        for _ in range(_N_TRIES):
            answer = await client.post("/v1/tenants", json=tenant)
            if not answer.is_server_error:
                break
            await asyncio.sleep(0.5)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
        started = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(width)))
        seconds = time.perf_counter() - started
    return Rate(len(weights), sum(len(item) + len(CONFIG) for item in weights), seconds)


async def write_all(folder: Path, weights: list[bytes], *, width: int) -> Rate:
    """The same files on the same disk, by the shortest durable way: write, fsync, rename.

    `width` at a time. The folder's own entry is synced too, once for each artifact.
    """
    await asyncio.to_thread(folder.mkdir)
    queue = iter(enumerate(weights))

    async def work() -> None:
        for number, content in queue:
            await asyncio.to_thread(_write, folder / str(number), content)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(width)))
    seconds = time.perf_counter() - started
    return Rate(len(weights), sum(len(item) + len(CONFIG) for item in weights), seconds)


def _write(folder: Path, content: bytes) -> None:
    folder.mkdir()
    for name, data in (("adapter_config.json", CONFIG), ("adapter_model.safetensors", content)):
        unfinished = folder / (name + ".new")
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(folder / name)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
