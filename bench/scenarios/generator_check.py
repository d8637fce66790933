"""Does our load generator measure what an established one measures? Against `vllm bench serve`.

One real engine with one adapter. In turn, in changing order, `loraplane load`'s generator and
vLLM's own benchmark offer it the same requests: the same times of arrival, prompt and output
lengths (vLLM's data set `timed_trace` takes all three from a file), prompts of random token ids,
prefix cache off. All figures are computed here, by one percentile function, from both generators'
raw times. The run before the first is thrown away.

What differs by definition: vLLM's TTFT counts from when it sends a request, ours from when the
request was due. `TTFT from sending` is ours counted as theirs, for the comparison; the difference
to `TTFT from due` is our generator's lag.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.figure_table import Say, found, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.result import Figure, Goal, write_result
from serving.tuning.arrival_processes import Poisson
from serving.tuning.generator import Target, run_load
from serving.tuning.lengths import Fixed
from serving.tuning.load_shape import RequestClass, Shape, ShapeSpec
from serving.tuning.measure import LoadResult, Seconds, percentile
from serving.tuning.rig import running_engine

QUESTION = "Does our load generator measure what vLLM's own benchmark measures on one engine?"
OURS, THEIRS = "loraplane load", "vllm bench serve"
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "gpu_slots": 2, "cpu_slots": 8, "max_rank": 8, "dtype": "bfloat16", "max_model_len": 512,
        "max_num_batched_tokens": 256, "enforce_eager": True, "kv_cache_gib": 1,
        "extra_arguments": ("--no-enable-prefix-caching",),
    },
    adapters=(1,),
    concurrency=1,
    n_prompt=32,
    n_output=24,
    ranks=(8,),
)  # fmt: skip
_RATE, _REQUESTS, _QUICK_REQUESTS = 1.5, 30, 12
_CHUNK = 16
"""Tokens that one hash of vLLM's trace stands for."""
_START = (
    # Not `vllm bench`: the command of the CPU build looks for a distribution named vllm.
    "from vllm.benchmarks.serve import add_cli_args, main;"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser;"
    "parser = Parser(); add_cli_args(parser); main(parser.parse_args())"
)
_GOALS = (("gap p50", 0.05), ("TTFT from sending p50", 0.1), ("throughput", 0.05))
"""How far the median ratio may be from 1. Chosen before measuring: what `tune` calls a difference,
5 %, and twice that for TTFT, which has one value per request where gaps have 23."""

Row = dict[str, float]


def trace_lines(shape: Shape, *, seed: int) -> str:
    """The shape as a file of vLLM's data set `timed_trace`; no two prompts have a chunk in common.

    Its hash is salted per process, so prompts of two runs of one file differ too.
    """
    draw = np.random.default_rng(seed)
    lines = [
        {
            "timestamp": arrival.at,
            "input_length": arrival.n_prompt,
            "output_length": arrival.n_output,
            "hash_ids": draw.integers(2**53, size=-(-arrival.n_prompt // _CHUNK)).tolist(),
        }
        for arrival in shape.arrivals
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def run_theirs(target: Target, shape: Shape, *, tokenizer: str, folder: Path, seed: int) -> Any:
    """Their benchmark in a process of its own; its detailed result.

    Raises:
        RuntimeError: it failed; the end of what it printed says why.
    """
    trace = folder / "trace.jsonl"
    trace.write_text(trace_lines(shape, seed=seed))
    (model,) = target.models
    arguments = [
        "--backend", "openai", "--base-url", target.url, "--endpoint", "/v1/completions",
        "--model", model.name, "--header", f"Authorization=Bearer {model.key}",
        "--tokenizer", tokenizer,
        "--dataset-name", "timed_trace", "--dataset-path", str(trace),
        "--num-prompts", str(len(shape.arrivals)), "--ignore-eos", "--temperature", "0",
        "--disable-tqdm", "--save-result", "--save-detailed", "--result-dir", str(folder),
        "--result-filename", "theirs.json",
    ]  # fmt: skip
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": "",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _START, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    result = folder / "theirs.json"
    if done.returncode or not result.exists():
        raise RuntimeError(f"{THEIRS} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(result.read_text())


def row_of_ours(result: LoadResult) -> Row:
    """Our figures, in ms and tokens/s."""
    from_sending = [s.first_at - s.sent_at for s in result.answered if s.first_at is not None]
    return {
        **_percentiles("TTFT from due", result.ttft()),
        **_percentiles("TTFT from sending", from_sending),
        **_percentiles("gap", result.gaps()),
        "throughput": result.tokens_per_second,
        "lag p99": 1000 * percentile(result.lag(), 99),
        "failed": float(result.n_failed),
    }


def row_of_theirs(result: Mapping[str, Any]) -> Row:
    """The same of their raw times; the whole time is from the first sending to the last token."""
    ends = [
        start + ttft + sum(gaps)
        for start, ttft, gaps in zip(
            result["start_times"], result["ttfts"], result["itls"], strict=True
        )
    ]
    tokens = sum(result["input_lens"]) + sum(result["output_lens"])
    return {
        **_percentiles("TTFT from sending", result["ttfts"]),
        **_percentiles("gap", [gap for gaps in result["itls"] for gap in gaps]),
        "throughput": tokens / (max(ends) - min(result["start_times"])),
        "failed": float(sum(1 for error in result["errors"] if error)),
    }


def _percentiles(name: str, seconds: Sequence[float] | Seconds) -> Row:
    return {f"{name} p{q}": 1000 * percentile(seconds, q) for q in (50, 99)}


def figures_of(rows: Sequence[Mapping[str, Row]]) -> list[Figure]:
    """Both generators' figures, and ours over theirs within each run."""
    figures = []
    for side in (OURS, THEIRS):
        for name in rows[0][side]:
            unit = {"throughput": "tokens/s", "failed": ""}.get(name, "ms")
            figures.append(Figure(name, unit, tuple(row[side][name] for row in rows), None, side))
    for name in rows[0][THEIRS]:
        if name != "failed":
            values = ratios_of(rows, name)
            figures.append(Figure(name, "x", values, None, f"{OURS} / {THEIRS}"))
    return figures


def ratios_of(rows: Sequence[Mapping[str, Row]], name: str) -> tuple[float, ...]:
    """Ours over theirs, run by run."""
    return tuple(row[OURS][name] / row[THEIRS][name] for row in rows)


def goals_of(rows: Sequence[Mapping[str, Row]]) -> list[Goal]:
    """That the two agree."""
    goals = []
    for name, margin in _GOALS:
        values = ratios_of(rows, name)
        is_met = abs(float(np.median(values)) - 1) <= margin
        wanted = f"ours over theirs within 1 +- {margin}"
        goals.append(Goal(f"{name} agrees", wanted, found(values, digits=3), is_met))
    n_failed = sum(row[side]["failed"] for row in rows for side in (OURS, THEIRS))
    goals.append(Goal("all requests answered", "none failed", f"{n_failed:.0f}", n_failed == 0))
    return goals


def measure(
    target: Target, machine: Machine, *, tokenizer: str, runs: int, n: int, folder: Path, say: Say
) -> tuple[list[dict[str, Row]], list[Any]]:
    """A row per run, and both generators' raw times."""
    request = RequestClass("any", Fixed(machine.n_prompt), Fixed(machine.n_output))
    spec = ShapeSpec("check", Poisson(_RATE), (request,), requests=n)
    asyncio.run(run_load(target, replace(spec, requests=4).draw(0), seed=10**6))
    rows, raw = [], []
    for run in range(runs):
        shape = spec.draw(run)
        row: dict[str, Row] = {}
        times: dict[str, Any] = {}
        for side in (OURS, THEIRS) if run % 2 else (THEIRS, OURS):
            say.step(f"run {run + 1} of {runs}, {side}")
            if side == OURS:
                ours = asyncio.run(run_load(target, shape, seed=run))
                row[side], times[side] = row_of_ours(ours), ours.to_json()
            else:
                theirs = run_theirs(target, shape, tokenizer=tokenizer, folder=folder, seed=run)
                row[side] = row_of_theirs(theirs)
                times[side] = {key: theirs[key] for key in ("start_times", "ttfts", "itls")}
        rows.append(row)
        raw.append(times)
    return rows, raw


def main() -> None:
    """Measure, print the table, and write the result with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    add_machine_option(parser)
    options = parser.parse_args()
    machine = machine_of(options, CPU)
    runs, n = (1, _QUICK_REQUESTS) if options.quick else (options.runs, _REQUESTS)
    profile = machine.engine_profile()
    with (
        tempfile.TemporaryDirectory() as text,
        progress_line("starting the engine", n_steps=2 * runs) as say,
        running_engine(
            profile, n_adapters=1, folder=Path(text), rank=machine.ranks[0], on_stage=say.stage
        ) as target,
    ):
        rows, raw = measure(
            target, machine, tokenizer=profile.model, runs=runs, n=n, folder=Path(text), say=say
        )
    figures, goals = figures_of(rows), goals_of(rows)
    print_figures(QUESTION, figures, goals)
    if options.write:
        parameters = {"machine": machine, "runs": runs, "requests": n, "rate": _RATE}
        write_result(
            "generator_check", question=QUESTION, parameters=parameters, figures=figures,
            raw=raw, goals=goals, variant=machine.variant,
        )  # fmt: skip


if __name__ == "__main__":
    main()
