"""How long from an adapter's place to its first token, with and without prefetch?

Two servers with the same products and sizes, one slot and four places in CPU memory: ours, which
reads an adapter beside the engine's loop before the request enters it, and vLLM 0.32's own way,
which reads it inside a step. One request of one token at a time, by where its adapter is: in a
slot; in CPU memory (a swap into the slot); on the local disk, with its files in the page cache or
dropped from it; and for ours in the store alone, from the snapshot that names it to the first token
that a client gets who asks again every 10 ms. Removal: from the snapshot that no longer names it
until the worker has freed it. `beside a stream`: the same loads while another request decodes with
the base model, and the largest gap between two of its tokens.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from bench.cold_clients import IN_STEP, OURS, Client, Place, Side, Stream
from bench.cold_engine import (
    KEY,
    ColdEngine,
    ColdEngineFailed,
    StoredAdapter,
    running_cold_engine,
    store_adapters,
)
from bench.figure_table import Say, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.result import Figure, write_result
from bench.server import bare_command, bare_environment, free_port, running_server
from serving.engine.profile import EngineProfile
from serving.tuning.measure import percentile

QUESTION = "How long from an adapter's place to its first token, with and without prefetch?"
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "gpu_slots": 1, "cpu_slots": 4, "max_rank": 64, "dtype": "bfloat16", "max_model_len": 1024,
        "max_num_batched_tokens": 256, "enforce_eager": True, "kv_cache_gib": 1,
    },
    adapters=(6,),
    concurrency=1,
    n_prompt=16,
    n_output=1,
    ranks=(8, 16, 64),
)  # fmt: skip
SLOT, MEMORY, DISK, DROPPED, STORE = (
    "in a slot", "in CPU memory", "on disk, cached", "on disk", "in the store",
)  # fmt: skip
"""`on disk, cached`: the system has the files in memory; `on disk`: it was told to drop them."""
REMOVAL = "removal"
_ASK_AGAIN_SECONDS = 0.01
_WAIT_SECONDS = 60.0


def places_of(*, cpu_slots: int) -> tuple[Place, ...]:
    """Each place with the number of adapters that leads there; one slot."""
    past = cpu_slots + 1
    return (
        Place(SLOT, 1), Place(MEMORY, min(3, cpu_slots)), Place(DISK, past),
        Place(DROPPED, past, is_dropped=True),
    )  # fmt: skip


def measure_places(
    sides: Sequence[Side], adapters: dict[int, list[StoredAdapter]], places: Sequence[Place],
    *, run: int, n: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows of times by place, side and rank; the sides in turn, the one that begins changes."""
    for rank, stored in adapters.items():
        for place in places:
            for side in sides if run % 2 else sides[::-1]:
                side.settle(place, stored)
                seconds = [side.seconds(place, stored, number) for number in range(n)]
                yield _row(run, rank, place.name, side.name, seconds)


def measure_beside_a_stream(
    sides: Sequence[Side], adapters: dict[int, list[StoredAdapter]], place: Place,
    *, run: int, n: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows of the stream's largest gap around each load, and without any load."""
    for side in sides if run % 2 else sides[::-1]:
        with Stream(side.client.url, side.client.key).running() as stream:
            for rank, stored in adapters.items():
                side.settle(place, stored)
                times, gaps, quiet = [], [], []
                for number in range(n):
                    started = time.perf_counter()
                    times.append(side.seconds(place, stored, number))
                    time.sleep(0.1)
                    ended = time.perf_counter()
                    gaps.append(stream.largest_gap(started, ended))
                    time.sleep(0.2)
                    quiet.append(stream.largest_gap(ended + 0.05, time.perf_counter()))
                where = f"{place.name}, beside a stream"
                yield _row(run, rank, where, side.name, times, gap=gaps, quiet_gap=quiet)


def measure_store(
    engine: ColdEngine, client: Client, *, run: int, n: int
) -> Iterator[dict[str, Any]]:
    """Rows of times from snapshot to first token, and from snapshot to removed."""
    for rank, stored in engine.adapters.items():
        adapter, seconds, removals = stored[-1], [], []
        for _ in range(n):
            started = time.perf_counter()
            engine.want(adapter)
            while client.status_and_seconds(adapter.name)[0] != httpx.codes.OK:
                if time.perf_counter() - started > _WAIT_SECONDS:
                    raise ColdEngineFailed(f"{adapter.entry.name} was never served")
                time.sleep(_ASK_AGAIN_SECONDS)
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
            engine.give_up(adapter)
            engine.wait_removed(adapter)
            removals.append(time.perf_counter() - started)
            engine.wait_deleted(adapter)
        yield _row(run, rank, STORE, OURS, seconds)
        yield _row(run, rank, REMOVAL, OURS, removals)


def _row(
    run: int, rank: int, place: str, side: str, seconds: Sequence[float], **more: Sequence[float]
) -> dict[str, Any]:
    lists = {"ms": seconds, **{f"{name}_ms": values for name, values in more.items()}}
    shown = {name: [round(1000 * value, 2) for value in values] for name, values in lists.items()}
    return {"run": run, "rank": rank, "place": place, "side": side, **shown}


def figures_of(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """A row of the table per rank, place and side; percentiles are of one run's requests each."""
    groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["run"]):
        groups.setdefault((row["rank"], row["place"], row["side"]), []).append(row)
    figures = []
    for (rank, place, side), runs in groups.items():
        group = f"rank {rank}, {place}: {side}"
        for name, key in (
            ("time", "ms"), ("a stream's largest gap", "gap_ms"),
            ("gap, no load", "quiet_gap_ms"),
        ):  # fmt: skip
            for q in (50, 99):
                values = tuple(percentile(row[key], q) for row in runs if key in row)
                if values:
                    figures.append(Figure(f"{name} p{q}", "ms", values, "lower", group))
        # A run has few requests of each kind: its p99 is nearly the slowest of them.
        pooled = [value for row in runs for value in row["ms"]]
        figures.append(
            Figure("time p99, runs together", "ms", (percentile(pooled, 99),), "lower", group)
        )
        slot = groups.get((rank, SLOT, side))
        if place == MEMORY and slot:
            pairs = zip(runs, slot, strict=True)
            values = tuple(percentile(a["ms"], 50) - percentile(b["ms"], 50) for a, b in pairs)
            figures.append(Figure("of it the swap into a slot, p50", "ms", values, "lower", group))
        other = groups.get((rank, place, IN_STEP))
        if side == OURS and other:
            figures += _ratios(runs, other, group)
    return figures


def _ratios(
    ours: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], group: str
) -> Iterator[Figure]:
    for name, key in (("time", "ms"), ("gap", "gap_ms")):
        if all(key in row for row in (*ours, *other)):
            pairs = zip(ours, other, strict=True)
            values = tuple(percentile(a[key], 50) / percentile(b[key], 50) for a, b in pairs)
            yield Figure(f"{name} p50, prefetch / in the step", "x", values, "lower", group)


@contextmanager
def _both(
    profile: EngineProfile, machine: Machine, folder: Path, say: Say
) -> Iterator[tuple[ColdEngine, list[Side]]]:
    (n,) = machine.adapters[:1]
    adapters = store_adapters(profile, folder, ranks=machine.ranks, n=n)
    modules = {a.name: a.source for stored in adapters.values() for a in stored[:-1]}
    ours_port, bare_port = free_port(), free_port()
    bare_dir = folder / "bare"
    bare_dir.mkdir()
    # Our products and counters in both; the middleware and its leases are ours alone.
    environment = bare_environment(profile, has_our_products=True)
    environment["LORAPLANE_ENGINE_DIR"] = str(bare_dir)
    url = f"http://127.0.0.1:{bare_port}"
    command = bare_command(profile, port=bare_port, modules=modules)
    with (
        running_cold_engine(
            profile, folder, adapters, port=ours_port, on_stage=say.stage
        ) as engine,
        running_server(
            command, environment, url=url, log=folder / "bare.log", on_stage=say.stage
        ) as bare,
    ):
        ours = Side(OURS, Client(engine.server.url, KEY, machine.n_prompt), engine)
        yield engine, [ours, Side(IN_STEP, Client(bare.url, None, machine.n_prompt), engine)]


def _measure(
    machine: Machine, profile: EngineProfile, *, runs: int, n: int, say: Say
) -> Iterator[dict[str, Any]]:
    places = places_of(cpu_slots=profile.cpu_slots)
    with tempfile.TemporaryDirectory() as text, _both(profile, machine, Path(text), say) as found:
        engine, sides = found
        for run in range(runs):
            say.step(f"run {run + 1} of {runs}, by place")
            shuffled = random.Random(run).sample(places, len(places))
            yield from measure_places(sides, engine.adapters, shuffled, run=run, n=n)
            say.step(f"run {run + 1} of {runs}, beside a stream")
            yield from measure_beside_a_stream(
                sides, engine.adapters, places[2], run=run, n=max(2, n // 2)
            )
            say.step(f"run {run + 1} of {runs}, from the store")
            yield from measure_store(engine, sides[0].client, run=run, n=max(2, n // 3))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10, help="of each place in a run")
    parser.add_argument("--quick", action="store_true", help="one short run of one rank")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    add_machine_option(parser)
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, and write the result with `--write`."""
    options = _options()
    machine = machine_of(options, CPU)
    runs, n = (1, 5) if options.quick else (options.runs, options.requests)
    if options.quick:
        machine = replace(machine, ranks=machine.ranks[:1])
    profile = machine.engine_profile()
    with progress_line("writing adapters", n_steps=3 * runs) as say:
        rows = list(_measure(machine, profile, runs=runs, n=n, say=say))
    figures = figures_of(rows)
    print_figures(QUESTION, figures)
    if options.write:
        write_result(
            "cold_load", question=QUESTION, figures=figures, raw=rows, variant=machine.variant,
            parameters={"machine": machine, "runs": runs, "requests": n},
        )  # fmt: skip


if __name__ == "__main__":
    main()
