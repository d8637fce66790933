"""N adapters on one engine, or N engines with one merged model each, on the same machine?

Both kinds run at the same time and are measured in turn, at the same number of requests in flight
(closed loop): with traffic for all tenants alike, and with all of it for one of them. On a CPU the
one engine computes on all cores and each standalone engine on its own share of them, which is
kinder to them than sharing all; vLLM's own choice would leave a core to its other processes. Memory
is that of all processes (PSS: shared pages once), weights and caches in it; idle cost is processor
time over a while without a request, of all engines in the same while.

As many standalone engines run as the machine description says. For more tenants memory and idle
cost are modelled, and are named so: every further engine costs what the real ones cost on average,
every further adapter its place in CPU memory. Throughput is not modelled.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base_folder import find_base_folder
from adapters.base_model import read_base_model
from bench.closed_loop import Ask, run_closed_loop
from bench.figure_table import Say, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.merged_base import write_merged
from bench.result import Figure, write_result
from bench.server import (
    Server,
    bare_command,
    bare_environment,
    device_bytes,
    free_port,
    processor_seconds,
    running_server,
)
from serving.engine.profile import EngineProfile
from serving.tuning.measure import percentile
from serving.tuning.rig import started_engine
from serving.tuning.synthetic_adapter import write_synthetic_adapter

QUESTION = "What do N adapters on one engine cost and save against N engines with one model each?"
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "gpu_slots": 8, "cpu_slots": 64, "max_rank": 16, "dtype": "bfloat16", "max_model_len": 512,
        "max_num_batched_tokens": 256, "enforce_eager": True, "kv_cache_gib": 1,
    },
    adapters=(2,),
    concurrency=8,
    n_prompt=16,
    n_output=32,
)  # fmt: skip
SHARED, ALONE = "one engine", "standalone engines"
MODELLED = (4, 8, 16, 32, 64)
"""Tenants for which memory and idle cost are modelled."""
LOADS = ("all tenants", "one tenant")
_WAVES = 2
_IDLE_SECONDS = 15.0
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Side:
    """One way to serve the tenants: where each is asked, and whose processes these are."""

    name: str
    asks: tuple[Ask, ...]
    """One template per tenant."""
    pids: tuple[int, ...]
    memory: tuple[Server, ...]

    @property
    def gib(self) -> float:
        """Memory of all its processes, in GiB."""
        return sum(server.resident_bytes for server in self.memory) / _GIB

    @property
    def processor_seconds(self) -> float:
        """Of all its processes since they started."""
        return sum(processor_seconds(pid) for pid in self.pids)


def asks_of(side: Side, load: str, *, n: int) -> list[Ask]:
    """`n` requests: to the tenants in turn, or all to the first."""
    asks = side.asks if load == LOADS[0] else side.asks[:1]
    return [asks[number % len(asks)] for number in range(n)]


def measure_load(side: Side, load: str, machine: Machine, *, run: int) -> dict[str, Any]:
    """A row: throughput and times of one side under one load."""
    n = _WAVES * machine.concurrency
    warm = [replace(ask, n_output=2) for ask in asks_of(side, load, n=machine.concurrency)]
    run_closed_loop(warm, in_flight=machine.concurrency, seed=1000 + run)
    result = run_closed_loop(asks_of(side, load, n=n), in_flight=machine.concurrency, seed=run)
    row = {
        "run": run, "side": side.name, "load": load, "n_requests": n,
        "tokens_per_second": result.output_tokens_per_second,
    }  # fmt: skip
    for name in ("ttft", "gaps", "e2e"):
        for q in (50, 99):
            row[f"{name}_p{q}_ms"] = 1000 * percentile(getattr(result, name)(), q)
    return row


def measure_idle(sides: Sequence[Side], *, seconds: float, run: int) -> list[dict[str, Any]]:
    """A row per side: memory, and processor seconds in a minute without a request."""
    before = [side.processor_seconds for side in sides]
    started = time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - started) / 60
    return [
        {
            "run": run, "side": side.name, "load": "idle", "gib": side.gib,
            "processor_seconds_per_minute": (side.processor_seconds - used) / minutes,
        }
        for side, used in zip(sides, before, strict=True)
    ]  # fmt: skip


def values_of(
    rows: Sequence[Mapping[str, Any]], side: str, load: str, key: str
) -> tuple[float, ...]:
    """One value per run, in the order of the runs."""
    found = [row for row in rows if (row["side"], row["load"]) == (side, load)]
    return tuple(float(row[key]) for row in sorted(found, key=lambda row: row["run"]))


def model(
    shared: Sequence[float], alone: Sequence[float], *, n_real: int, n: int, per_adapter: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Cost of `n` tenants on one engine and on n engines, per run, from that of `n_real`. Linear.

    `per_adapter`: what a further adapter costs the one engine.
    """
    on_one = tuple(value + (n - n_real) * per_adapter for value in shared)
    return on_one, tuple(value * n / n_real for value in alone)


def load_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Throughput and times per load and side, and their ratios within a run."""
    shown = (
        ("throughput", "tokens/s", "tokens_per_second", "higher"),
        ("TTFT p50", "ms", "ttft_p50_ms", "lower"),
        ("TTFT p99", "ms", "ttft_p99_ms", "lower"),
        ("end to end p50", "ms", "e2e_p50_ms", "lower"),
        ("end to end p99", "ms", "e2e_p99_ms", "lower"),
    )
    figures = []
    for load in LOADS:
        for name, unit, key, better in shown:
            pair = [values_of(rows, side, load, key) for side in (SHARED, ALONE)]
            for side, values in zip((SHARED, ALONE), pair, strict=True):
                group = f"{load}: {side}"
                figures.append(Figure(name, unit, values, better, group))  # type: ignore[arg-type]
            ratio = _ratios(*pair)
            group = f"{load}: one engine / standalone"
            figures.append(Figure(name, "x", ratio, better, group))  # type: ignore[arg-type]
    return figures


def idle_figures(
    rows: Sequence[Mapping[str, Any]], *, n_real: int, adapter_gib: float
) -> list[Figure]:
    """Memory and idle processor time of the real engines, and modelled for more tenants."""
    figures = []
    costs = (
        ("memory", "GiB", "gib", adapter_gib),
        ("idle processor time", "s/min", "processor_seconds_per_minute", 0.0),
    )
    for name, unit, key, per_adapter in costs:
        shared, alone = (values_of(rows, side, "idle", key) for side in (SHARED, ALONE))
        for n in (n_real, *(n for n in MODELLED if n > n_real)):
            on_one, on_many = model(shared, alone, n_real=n_real, n=n, per_adapter=per_adapter)
            how = "measured" if n == n_real else "modelled"
            ratio = _ratios(on_one, on_many)
            group = f"{n} tenants, {how}"
            figures += [
                Figure(f"{name}, one engine", unit, on_one, "lower", group),
                Figure(f"{name}, standalone", unit, on_many, "lower", group),
                Figure(f"{name}, one engine / standalone", "x", ratio, "lower", group),
            ]
        idle = tuple(value / n_real for value in alone)
        figures += [
            Figure(f"{name}, one engine", unit, (per_adapter,), "lower", "one more idle tenant"),
            Figure(f"{name}, standalone", unit, idle, "lower", "one more idle tenant"),
        ]
    return figures


def _ratios(values: Sequence[float], of: Sequence[float]) -> tuple[float, ...]:
    """Run by run; NaN where there is nothing to divide by."""
    return tuple(a / b if b else math.nan for a, b in zip(values, of, strict=True))


def cores_of(number: int, n: int, n_cores: int) -> str:
    """The share of the cores that standalone engine `number` of `n` gets, as `first-last`."""
    width = max(1, n_cores // n)
    first = number * width % n_cores
    return f"{first}-{first + width - 1}"


def _binding(profile: EngineProfile, number: int, n: int) -> dict[str, str]:
    """The environment that gives engine `number` of `n` its cores; none where a GPU computes."""
    if profile.kv_cache_gib is None:
        return {}
    return {"VLLM_CPU_OMP_THREADS_BIND": cores_of(number, n, os.cpu_count() or 1)}


@contextmanager
def _standalone(
    profile: EngineProfile, machine: Machine, folder: Path, say: Say, *, n: int
) -> Iterator[tuple[Side, float]]:
    """N engines with a merged model each; and the size of one adapter, in GiB."""
    base = find_base_folder(profile.model)
    card, size = read_base_model(base), 0.0
    servers: list[Server] = []
    with contextlib.ExitStack() as stack:
        for number in range(n):
            say.now(f"merging adapter {number + 1} of {n}")
            adapter = write_synthetic_adapter(
                folder / f"adapter-{number}", card, rank=machine.ranks[0],
                targets=profile.target_modules, seed=number,
            )  # fmt: skip
            size = (adapter / "adapter_model.safetensors").stat().st_size / _GIB
            merged = write_merged(base, adapter, folder / f"merged-{number}", dtype="bfloat16")
            port = free_port()
            environment = {**bare_environment(profile), **_binding(profile, number, n)}
            one = replace(profile, model=str(merged))
            server = running_server(
                bare_command(one, port=port), environment, url=f"http://127.0.0.1:{port}",
                log=folder / f"standalone-{number}.log", on_stage=say.stage,
            )  # fmt: skip
            servers.append(stack.enter_context(server))
        asks = tuple(
            Ask(server.url, "base", None, number, machine.n_prompt, machine.n_output)
            for number, server in enumerate(servers)
        )
        yield Side(ALONE, asks, tuple(s.pid for s in servers), tuple(servers)), size


def _measure(
    machine: Machine, profile: EngineProfile, *, n: int, runs: int, idle_seconds: float, say: Say
) -> tuple[list[dict[str, Any]], float, dict[str, float]]:
    device = [device_bytes()]
    with (
        tempfile.TemporaryDirectory() as text,
        started_engine(
            profile, n_adapters=n, folder=Path(text) / "shared", rank=machine.ranks[0],
            on_stage=say.stage, environment=_binding(profile, 0, 1),
        ) as engine,
    ):  # fmt: skip
        device.append(device_bytes())
        asks = tuple(
            Ask(engine.target.url, one.name, one.key, number, machine.n_prompt, machine.n_output)
            for number, one in enumerate(engine.target.models)
        )
        shared = Side(SHARED, asks, (engine.pid,), (Server(engine.target.url, engine.pid),))
        rows: list[dict[str, Any]] = []
        with _standalone(profile, machine, Path(text), say, n=n) as (alone, size):
            device.append(device_bytes())
            sides = [shared, alone]
            for run in range(runs):
                for load in LOADS:
                    for side in sides if run % 2 else sides[::-1]:
                        say.step(f"run {run + 1} of {runs}, {load}, {side.name}")
                        rows.append(measure_load(side, load, machine, run=run))
                say.step(f"run {run + 1} of {runs}, idle")
                rows += measure_idle(sides, seconds=idle_seconds, run=run)
    gib = {SHARED: (device[1] - device[0]) / _GIB, ALONE: (device[2] - device[1]) / _GIB}
    return rows, size, gib


def main() -> None:
    """Measure, print the tables, and write the result with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    add_machine_option(parser)
    options = parser.parse_args()
    machine = machine_of(options, CPU)
    profile, n = machine.engine_profile(), machine.adapters[0]
    runs, idle_seconds = (1, 5.0) if options.quick else (options.runs, _IDLE_SECONDS)
    with progress_line("starting", n_steps=5 * runs) as say:
        rows, size, device = _measure(
            machine, profile, n=n, runs=runs, idle_seconds=idle_seconds, say=say
        )
    loads = load_figures(rows)
    idle = idle_figures(rows, n_real=n, adapter_gib=size)
    if any(device.values()):
        idle += [
            Figure("memory of the device", "GiB", (gib,), "lower", f"{n} tenants: {side}")
            for side, gib in device.items()
        ]
    print_figures(QUESTION, loads)
    print_figures("memory and idle cost", idle)
    if options.write:
        write_result(
            "multi_lora_or_standalone", question=QUESTION, figures=[*loads, *idle], raw=rows,
            parameters={"machine": machine, "runs": runs, "idle_seconds": idle_seconds},
            variant=machine.variant,
        )  # fmt: skip


if __name__ == "__main__":
    main()
