"""What does tenancy cost a request? Inside the engine process, and seen by a client.

Two real servers on the tiny base, alive at the same time: vLLM alone with one static adapter, and
ours. Blocks of requests of one token alternate between them, one at a time over one connection, so
that the machine's moods hit both. In our process, timers stand around the middleware and `admit`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import tiny_base
from serving.contract import (
    AliasEntry,
    ArtifactFile,
    FleetSnapshot,
    KeyGrant,
    Role,
    VersionEntry,
    encode,
    hash_key,
)
from serving.engine.launch import prepare_launch
from serving.settings import EngineSettings

_SECRET, _KEY, _OURS, _BARE = "bench-secret", "lp_" + "b" * 43, 8595, 8596
_SHIM = "bench.scenarios.asgi_timing"
_BLOCK = 100


def _snapshot(adapter: Path, store: Path) -> FleetSnapshot:
    import asyncio

    from adapters.manifest import manifest_of_folder
    from adapters.store import ArtifactStore

    url = f"file://{store}"
    manifest = manifest_of_folder(adapter)
    asyncio.run(ArtifactStore.from_url(url).put(manifest, adapter))
    files = [ArtifactFile(f.name, f.sha256, f.size_bytes) for f in manifest.files]
    entry = VersionEntry(
        "bench/support@1", "bench", "support", 1, manifest.digest, files, 8, Role.SERVING
    )
    grant = KeyGrant("k", hash_key(_KEY, cluster_secret=_SECRET), "bench", ["inference"])
    return FleetSnapshot(1, "base", url, [entry], [AliasEntry("bench", "support", 1)], [grant])


def _ours(base: Path, adapter: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    engine_dir = folder / "engine"
    engine_dir.mkdir()
    (engine_dir / "snapshot.json").write_bytes(encode(_snapshot(adapter, folder / "store")))
    profile = folder / "profile.yaml"
    profile.write_text(json.dumps(_profile(base)))
    settings = EngineSettings(
        engine_dir=engine_dir,
        cluster_secret=_SECRET,
        engine_port=_OURS,
        controller_url=None,
        profile=profile,
    )
    launch = prepare_launch(settings, os.environ)
    place = launch.command.index("--middleware")
    command = launch.command[:]
    command[place + 2 : place + 2] = ["--middleware", f"{_SHIM}.Outer"]
    command[place:place] = ["--middleware", f"{_SHIM}.Inner"]
    return command, {**launch.environment, "LORAPLANE_BENCH_TIMES": str(folder / "times.jsonl")}


def _profile(base: Path) -> dict[str, Any]:
    return {
        "model": str(base), "gpu_slots": 2, "cpu_slots": 8, "max_rank": 8, "dtype": "float32",
        "max_model_len": 512, "max_num_batched_tokens": 256, "enforce_eager": True,
        "kv_cache_gib": 1, "long_prefill_token_threshold": 64,
    }  # fmt: skip


def _bare(base: Path, adapter: Path) -> tuple[list[str], dict[str, str]]:
    flags = (
        f"--model {base} --served-model-name base --host 127.0.0.1 --port {_BARE} --dtype float32 "
        f"--enable-lora --max-loras 2 --max-cpu-loras 8 --max-lora-rank 8 --max-model-len 512 "
        "--max-num-batched-tokens 256 --long-prefill-token-threshold 64 --enforce-eager "
        "--generation-config vllm --disable-fastapi-docs "
        "--lora-target-modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj "
        f"--lora-modules support={adapter}"
    )
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_PLUGINS": "",
    }
    module = "vllm.entrypoints.launchers.api_server.entry"
    return [sys.executable, "-m", module, *flags.split()], environment


@contextmanager
def _server(command: list[str], environment: dict[str, str], log: Path, url: str) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-3000:])
            try:
                if httpx.get(url).status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                pass
            time.sleep(1)
        else:
            raise TimeoutError(log.read_text()[-3000:])
        yield
    finally:
        process.terminate()
        process.wait(90)


def _block(client: httpx.Client) -> list[float]:
    seconds = []
    for number in range(_BLOCK):
        body = {"model": "support", "prompt": f"number {number}", "max_tokens": 1, "temperature": 0}
        started = time.perf_counter()
        response = client.post("/v1/completions", json=body)
        seconds.append(time.perf_counter() - started)
        response.raise_for_status()
    return seconds


def _measure(n_blocks: int) -> dict[str, list[list[float]]]:
    headers = {"Authorization": f"Bearer {_KEY}"}
    clients = {
        name: httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
        for name, port in (("bare", _BARE), ("ours", _OURS))
    }
    for client in clients.values():
        _block(client)
    blocks: dict[str, list[list[float]]] = {name: [] for name in clients}
    for turn in range(n_blocks):
        order = list(clients) if turn % 2 else list(clients)[::-1]
        for name in order:
            blocks[name].append(_block(clients[name]))
    return blocks


def _report(rows: list[dict[str, int]], blocks: dict[str, list[list[float]]]) -> dict[str, Any]:
    micro = {
        "middleware": np.array([row["middleware"] for row in rows]) / 1000,
        "admit": np.array([row["admit"] for row in rows]) / 1000,
        "together": np.array([row["middleware"] + row["admit"] for row in rows]) / 1000,
    }
    inside = {
        name: {"p50_us": float(np.percentile(v, 50)), "p99_us": float(np.percentile(v, 99))}
        for name, v in micro.items()
    }
    for name, row in inside.items():
        print(f"in process, {name:>10}: p50 {row['p50_us']:.0f} us, p99 {row['p99_us']:.0f} us")
    seen = {}
    for name, parts in blocks.items():
        p50 = [1e6 * float(np.percentile(part, 50)) for part in parts]
        p99 = [1e6 * float(np.percentile(part, 99)) for part in parts]
        seen[name] = {"p50_us": p50, "p99_us": p99}
        print(
            f"client, {name}: p50 {statistics.median(p50):.0f} us (blocks {min(p50):.0f} to "
            f"{max(p50):.0f}), p99 {statistics.median(p99):.0f} us"
        )
    return {"n_requests": len(rows), "inside": inside, "client_blocks": seen}


def main() -> None:
    """Print the figures, write them with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10, help=f"blocks of {_BLOCK} requests each")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base = tiny_base()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (adapter,) = make_random_adapters(1, base=base, folder=folder / "adapters", rank=8)
        bare = _bare(base, adapter)
        ours = _ours(base, adapter, folder)
        with (
            _server(*bare, folder / "bare.log", f"http://127.0.0.1:{_BARE}/health"),
            _server(*ours, folder / "ours.log", f"http://127.0.0.1:{_OURS}/ready"),
        ):
            blocks = _measure(options.blocks)
        lines = (folder / "times.jsonl").read_text().splitlines()
    result = _report([json.loads(line) for line in lines], blocks)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
