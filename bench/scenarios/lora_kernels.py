"""What do the CPU LoRA products cost? Upstream's against ours, on a real vLLM server, in one run.

Two servers after each other, the same but for `LORAPLANE_WITHOUT_HOOKS=cpu_kernels`; each answers
the same prompts with the base model alone and with 1, 4 and 40 adapters on 8 slots. Needs no
controller: the adapters are given to vLLM by its own `--lora-modules`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base

N_SLOTS, N_ADAPTERS, N_CLIENTS, N_TOKENS, PORT = 8, 40, 8, 48, 8597
_PROMPT = "List the tools that you would call to book a table for four people in Lisbon tonight. "


def _start(base: Path, adapters: list[Path], without: str, workdir: Path, dtype: str) -> Any:
    modules = [f"a{index}={path}" for index, path in enumerate(adapters)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "LORAPLANE_WITHOUT_HOOKS": without,
        "LORAPLANE_ENGINE_DIR": str(workdir),
    }
    arguments = (
        f"--model {base} --served-model-name base --port {PORT} --host 127.0.0.1 --enforce-eager "
        f"--enable-lora --max-loras {N_SLOTS} --max-cpu-loras 64 --max-lora-rank 16 "
        f"--max-model-len 1024 --max-num-batched-tokens 512 --generation-config vllm "
        f"--dtype {dtype} --no-enable-prefix-caching --disable-uvicorn-access-log "
        "--lora-target-modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
    )
    log = (workdir / "server.log").open("w")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
            *arguments.split(),
            *("--lora-modules", *modules),
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def _wait_ready(server: Any, workdir: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError((workdir / "server.log").read_text()[-3000:])
        try:
            if httpx.get(f"http://127.0.0.1:{PORT}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise TimeoutError("the server did not become healthy within 300 s")


async def _one(client: httpx.AsyncClient, model: str, number: int) -> tuple[float, int]:
    started, first, n_tokens = time.perf_counter(), None, 0
    body = {
        "model": model,
        "prompt": f"{number}: {_PROMPT}",
        "max_tokens": N_TOKENS,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - started
                n_tokens += 1
    return first or float("nan"), n_tokens


async def _measure(models: list[str], n_requests: int) -> dict[str, float]:
    queue = list(range(n_requests))
    results: list[tuple[float, int]] = []

    async def worker(client: httpx.AsyncClient) -> None:
        while queue:
            number = queue.pop(0)
            results.append(await _one(client, models[number % len(models)], number))

    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=300) as client:
        await asyncio.gather(*(worker(client) for _ in range(N_CLIENTS)))
    seconds = time.perf_counter() - started
    return {
        "tokens_per_second": sum(tokens for _, tokens in results) / seconds,
        "ttft_p50_ms": 1000 * statistics.median(first for first, _ in results),
    }


def _scenario(base: Path, adapters: list[Path], without: str, dtype: str, n: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        server = _start(base, adapters, without, Path(folder), dtype)
        try:
            _wait_ready(server, Path(folder))
            asyncio.run(_measure(["base", "a0"], 4))
            rows: dict[str, Any] = {}
            for label, models in (
                ("base", ["base"]),
                ("1", ["a0"]),
                ("4", [f"a{i}" for i in range(4)]),
                ("40", [f"a{i}" for i in range(N_ADAPTERS)]),
            ):
                rows[label] = [asyncio.run(_measure(models, n)) for _ in range(2)]
            return rows
        finally:
            server.terminate()
            server.wait(60)


def _rounded(rows: list[dict[str, float]], key: str) -> list[float]:
    return [round(row[key], 1) for row in rows]


def main() -> None:
    """Print a table, write the JSON with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--requests", type=int, default=24)
    options = parser.parse_args()
    base = smol_base()
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_random_adapters(N_ADAPTERS, base=base, folder=Path(folder), rank=16)
        runs = {
            name: _scenario(base, adapters, without, options.dtype, options.requests)
            for name, without in (("upstream", "cpu_kernels"), ("ours", ""))
        }
    for label in ("base", "1", "4", "40"):
        before, after = runs["upstream"][label], runs["ours"][label]
        text = "  ".join(
            f"{key}: {_rounded(before, key)} -> {_rounded(after, key)}"
            for key in ("tokens_per_second", "ttft_p50_ms")
        )
        print(f"{label:>4} adapters  {text}")
    if options.out:
        options.out.write_text(json.dumps({"dtype": options.dtype, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
