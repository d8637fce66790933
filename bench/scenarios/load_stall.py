"""How long does a load hold up four streams that decode? Prefetch against vLLM's own way.

One engine in this process. Each round loads one adapter that is not in memory, either through our
prefetch (read in a thread, commit between two steps) or inside the engine's loop as vLLM 0.32's
`add_lora` does, and takes the largest gap between two tokens of any stream. Rounds alternate, and a
third kind loads nothing: what the machine's own noise makes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base

_KINDS = ("nothing", "prefetch", "in_loop")
_STREAMS, _ROUND_SECONDS = 4, 2.5


class _Streams:
    """Four endless greedy streams; remembers when each token came."""

    def __init__(self, client: Any, params: Any) -> None:
        self._client, self._params = client, params
        self.times: list[list[float]] = [[] for _ in range(_STREAMS)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(_STREAMS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, number: int) -> None:
        from vllm.inputs import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=[100 + number, 7, 9, 11])
        while True:
            request_id = f"stream-{number}-{time.perf_counter_ns()}"
            self.times[number].append(float("nan"))
            async for _ in self._client.generate(prompt, self._params, request_id):
                self.times[number].append(time.perf_counter())

    def largest_gap_seconds(self, since: float) -> float:
        gaps = [
            later - earlier
            for times in self.times
            for earlier, later in itertools.pairwise(times)
            if earlier >= since and later >= since
        ]
        return max(gaps)


async def _round(kind: str, streams: _Streams, engine: Any, client: Any, path: Path, n: int) -> Any:
    since = time.perf_counter()
    await asyncio.sleep(_ROUND_SECONDS / 3)
    name, started = f"bench/load@{n}", time.perf_counter()
    if kind == "prefetch":
        await engine.prefetch(name, str(path), ())
    elif kind == "in_loop":
        await client.collective_rpc("loraplane_load_now", args=(name, 100_000 + n, str(path)))
    load_seconds = time.perf_counter() - started
    await asyncio.sleep(_ROUND_SECONDS * 2 / 3)
    gap = streams.largest_gap_seconds(since)
    if kind == "prefetch":
        await engine.remove(name)
    elif kind == "in_loop":
        await client.collective_rpc("loraplane_remove", args=(100_000 + n, name, True))
    return {"kind": kind, "largest_gap_seconds": gap, "load_seconds": load_seconds}


async def _measure(base: Path, adapters: list[Path], folder: Path) -> list[dict[str, Any]]:
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    from serving.engine.compat.port import VllmEngine
    from serving.engine.ports import EngineDescription

    client = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=str(base),
            dtype="float32",
            enforce_eager=True,
            enable_lora=True,
            max_loras=4,
            max_cpu_loras=16,
            max_lora_rank=64,
            max_model_len=1024,
            max_num_batched_tokens=256,
            worker_extension_cls="serving.engine.compat.worker.WorkerExtension",
            lora_target_modules=[
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ],
        )
    )
    ids = iter(range(1, 1_000_000))
    engine = VllmEngine(
        client, lambda: next(ids), folder / "facts.json", EngineDescription("", "", 4, 16, 64, 1024)
    )
    params = SamplingParams(
        temperature=0, max_tokens=900, ignore_eos=True, output_kind=RequestOutputKind.DELTA
    )
    streams = _Streams(client, params)
    streams.start()
    await asyncio.sleep(3)
    rows = []
    for number, path in enumerate(adapters):
        kind = _KINDS[number % len(_KINDS)]
        rows.append(await _round(kind, streams, engine, client, path, number))
    await streams.stop()
    client.shutdown()
    return rows


def main() -> None:
    """Print one line per kind and the ratio; write every round with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each kind")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_CPU_KVCACHE_SPACE="1")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["LORAPLANE_ENGINE_DIR"] = text
        base = smol_base()
        adapters = make_random_adapters(
            3 * options.rounds, base=base, folder=folder, rank=options.rank
        )
        size = (adapters[0] / "adapter_model.safetensors").stat().st_size
        rows = asyncio.run(_measure(base, adapters, folder))
    print(f"adapter of rank {options.rank}: {size / 1e6:.0f} MB")
    medians = {}
    for kind in _KINDS:
        gaps = sorted(row["largest_gap_seconds"] * 1000 for row in rows if row["kind"] == kind)
        medians[kind] = statistics.median(gaps)
        print(
            f"{kind:>9}: largest gap ms median {medians[kind]:.0f}, all {[round(g) for g in gaps]}"
        )
    print(f"in_loop / prefetch = {medians['in_loop'] / medians['prefetch']:.2f}")
    if options.out:
        options.out.write_text(json.dumps({"rank": options.rank, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
