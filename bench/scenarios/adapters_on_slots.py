"""What do distinct adapters cost, up to the slots and past them?

One engine, eight slots, adapters that all fit into CPU memory; always the same number of requests
in flight (closed loop), so that throughput is the engine's and not the clients'. `in turn`: request
i asks adapter i modulo n, so a batch holds as many adapters as it can, and past the slots each
request finds its adapter evicted: the worst case of an LRU. `one at a time`: as many requests in a
row as are in flight ask the same adapter, so a batch holds one, and each change is a load.

The base model, one adapter, as many as there are slots, and more, are measured in turn within each
run: their differences are what one adapter's products cost, what distinct adapters in a batch cost,
and what copies into slots cost, which the engine also times itself. `--profile` samples the worker.
The bound is what reading weights alone would leave: a step reads base and each slot in use once.
`--before FILE` shows the throughput of an earlier result of this scenario beside this one's.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base_folder import find_base_folder
from bench.closed_loop import Ask, run_closed_loop
from bench.figure_table import Say, found, print_figures, progress_line
from bench.machine import Machine, MachineInvalid, add_machine_option, machine_of
from bench.result import BadResult, Figure, Goal, Result, read_result, write_result
from bench.weights_read import base_bytes, bound_of
from bench.worker_profile import ProfilerMissing, sample_worker
from serving.tuning.generator import Model
from serving.tuning.measure import percentile
from serving.tuning.rig import Engine, started_engine

QUESTION = "What do distinct adapters cost in throughput and p99, up to the slots and past them?"
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "gpu_slots": 8, "cpu_slots": 64, "max_rank": 16, "dtype": "bfloat16",
        "max_model_len": 512, "max_num_batched_tokens": 256, "enforce_eager": True,
        "kv_cache_gib": 1,
    },
    adapters=(1, 2, 4, 8, 16, 24, 40, 64),
    concurrency=8,
    n_prompt=16,
    n_output=32,
)  # fmt: skip
WANTED_RATIO = 0.95
_WAVES, _QUICK_WAVES = 2, 1
"""Rounds of `concurrency` requests that a point is measured with."""
_PROFILE_SECONDS = 15
_TIMES = ("ttft", "gaps", "e2e")


@dataclass(frozen=True, slots=True)
class Point:
    """A mix of adapters; `n` 0 is the bare base model."""

    n: int
    is_in_blocks: bool = False

    @property
    def label(self) -> str:
        """The row's name."""
        if self.n == 0:
            return "base model"
        how = ", one at a time" if self.is_in_blocks else ""
        return f"{self.n} adapter{'s' if self.n > 1 else ''}{how}"

    def adapter(self, number: int, in_flight: int) -> int:
        """Which adapter request `number` asks; -1 is the base model."""
        if self.n == 0:
            return -1
        return (number // in_flight if self.is_in_blocks else number) % self.n


def points_of(adapters: Sequence[int], *, n_slots: int) -> list[Point]:
    """The base model, each number of adapters, and the first number past the slots but one by one.

    The last is the one that the goal is about where it is among them: 40.
    """
    past = [n for n in adapters if n > n_slots]
    blocks = [Point(_compared(adapters, n_slots), is_in_blocks=True)] if past else []
    return [Point(0), *(Point(n) for n in adapters), *blocks]


def _compared(adapters: Sequence[int], n_slots: int) -> int:
    """The number of adapters that the goal is about: 40, or the most that are measured."""
    return 40 if 40 in adapters else max(adapters)


def asks_of(
    point: Point, models: Sequence[Model], base: Model, machine: Machine, *, url: str,
    first: int, n: int, n_output: int,
) -> list[Ask]:  # fmt: skip
    """Requests `first` to `first` + n of a point."""
    asks = []
    for number in range(first, first + n):
        index = point.adapter(number, machine.concurrency)
        model = base if index < 0 else models[index]
        asks.append(Ask(url, model.name, model.key, index, machine.n_prompt, n_output))
    return asks


def measure_point(
    engine: Engine, machine: Machine, point: Point, *, first: int, n_waves: int
) -> dict[str, Any]:
    """One row: throughput and times of a point, and what the engine counted meanwhile."""
    url, models = engine.target.url, engine.target.models
    n = n_waves * machine.concurrency
    # Brings the slots into the state that this mix leaves them in; nothing of it is counted.
    warm = asks_of(
        point, models, engine.base, machine, url=url, first=first, n=machine.concurrency, n_output=2
    )
    run_closed_loop(warm, in_flight=machine.concurrency, seed=first)
    asks = asks_of(
        point, models, engine.base, machine, url=url, first=first + machine.concurrency, n=n,
        n_output=machine.n_output,
    )  # fmt: skip
    before, copied = engine.counts(), copy_seconds(engine.facts())
    result = run_closed_loop(asks, in_flight=machine.concurrency, seed=first + 1)
    after = engine.counts()
    row: dict[str, Any] = {
        "point": point.label,
        "n_requests": n,
        "seconds": result.seconds,
        "tokens_per_second": result.output_tokens_per_second,
        "copy_seconds": copy_seconds(engine.facts()) - copied,
        **{name: after[name] - before[name] for name in after},
    }
    for name in _TIMES:
        seconds = getattr(result, name)()
        for q in (50, 99):
            row[f"{name}_p{q}_ms"] = 1000 * percentile(seconds, q)
    return row


def copy_seconds(facts: Mapping[str, Any]) -> float:
    """Seconds that the worker has spent copying adapters into slots since its start."""
    return float(facts.get("load_seconds", {}).get("cache", {}).get("total_seconds", 0.0))


def measure(
    engine: Engine, machine: Machine, points: Sequence[Point], *, runs: int, n_waves: int, say: Say
) -> list[dict[str, Any]]:
    """All points in another order each run; the first use of each adapter is before that."""
    once = asks_of(
        Point(max(machine.adapters)), engine.target.models, engine.base, machine,
        url=engine.target.url, first=0, n=max(machine.adapters), n_output=1,
    )  # fmt: skip
    run_closed_loop(once, in_flight=machine.concurrency)
    rows = []
    for run in range(runs):
        for point in random.Random(run).sample(list(points), len(points)):
            say.step(f"run {run + 1} of {runs}, {point.label}")
            # Goes on in the turn where the run before left off, so that all adapters get theirs.
            first = run * (n_waves + 1) * machine.concurrency
            row = measure_point(engine, machine, point, first=first, n_waves=n_waves)
            rows.append({"run": run, **row})
    return rows


def by_point(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, tuple[float, ...]]:
    """Per point, one value per run in the order of the runs."""
    found_values: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["run"]):
        found_values.setdefault(row["point"], []).append(float(row[key]))
    return {point: tuple(values) for point, values in found_values.items()}


def figures_of(rows: Sequence[Mapping[str, Any]], points: Sequence[Point]) -> list[Figure]:
    """A row per point; ratios are of one run's values."""
    rate = by_point(rows, "tokens_per_second")
    one = rate[Point(1).label]
    requests = by_point(rows, "n_requests")
    figures = []
    for label in (point.label for point in points):
        ratio = tuple(a / b for a, b in zip(rate[label], one, strict=True))
        figures += [
            Figure("throughput", "tokens/s", rate[label], "higher", label),
            Figure("throughput of one adapter's", "x", ratio, "higher", label),
        ]
        for name, key in (("TTFT", "ttft"), ("inter-token gap", "gaps")):
            values = by_point(rows, f"{key}_p99_ms")[label]
            figures.append(Figure(f"{name} p99", "ms", values, "lower", label))
        for name, key in (("loads into slots", "loads_cache"), ("evictions", "evictions_slot")):
            each = zip(by_point(rows, key)[label], requests[label], strict=True)
            values = tuple(count / n for count, n in each)
            figures.append(Figure(f"{name} per request", "", values, "lower", label))
    return figures


def bounds_of(points: Sequence[Point], engine: Engine, base: Path) -> list[Figure]:
    """Per mix, the ratio to one adapter of a step that does nothing but read weights."""
    profile = engine.profile
    slot = float((engine.facts().get("memory") or {}).get("slot_bytes", math.nan))
    size = base_bytes(base, profile.dtype)
    figures = []
    for point in points:
        n = 1 if point.is_in_blocks else point.n
        bound = bound_of(n, n_slots=profile.gpu_slots, base=size, slot=slot)
        figures.append(Figure("bound by reading", "x", (bound,), None, point.label))
    return figures


def before_figures(before: Result, figures: Sequence[Figure]) -> list[Figure]:
    """An earlier result's throughput, and this one's against it, of medians, row by row."""
    earlier = {f.group: f for f in before.figures if f.name == "throughput"}
    added = []
    for figure in figures:
        if figure.name == "throughput" and (old := earlier.get(figure.group)):
            ratio = (figure.median / old.median,)
            added.append(Figure("throughput before", "tokens/s", old.values, None, figure.group))
            added.append(Figure("after / before", "x", ratio, "higher", figure.group))
    return added


def shares_of(
    rows: Sequence[Mapping[str, Any]], *, slots: Point, past: Point
) -> dict[str, tuple[float, ...]]:
    """Where the time per token of `past` goes, in percent that add up to 100 in each run.

    By differences of interleaved measurements: base model alone; one adapter's products; as many
    distinct adapters in a batch as there are slots. Copies into slots are what the engine timed.
    """
    seconds = {
        point: tuple(1 / value for value in values)
        for point, values in by_point(rows, "tokens_per_second").items()
    }
    total = seconds[past.label]
    copies = [
        copied / measured
        for copied, measured in zip(
            by_point(rows, "copy_seconds")[past.label],
            by_point(rows, "seconds")[past.label],
            strict=True,
        )
    ]
    base, one, full = (seconds[p.label] for p in (Point(0), Point(1), slots))
    runs = range(len(total))
    parts = {
        "base model": [base[i] / total[i] for i in runs],
        "products of one adapter": [(one[i] - base[i]) / total[i] for i in runs],
        "distinct adapters in a batch": [(full[i] - one[i]) / total[i] for i in runs],
        "copies into slots, timed by the engine": copies,
    }
    rest = [1 - sum(values[i] for values in parts.values()) for i in runs]
    parts["rest: admission, scheduling, noise"] = rest
    return {name: tuple(100 * value for value in values) for name, values in parts.items()}


def goals_of(
    rows: Sequence[Mapping[str, Any]], shares: Mapping[str, Sequence[float]], past: Point
) -> list[Goal]:
    """The ratio that was asked for, and that its loss is accounted for."""
    rate = by_point(rows, "tokens_per_second")
    ratios = [a / b for a, b in zip(rate[past.label], rate[Point(1).label], strict=True)]
    told = ", ".join(f"{name} {found(values, digits=0)} %" for name, values in shares.items())
    return [
        Goal(
            f"throughput of {past.label} against one adapter's",
            f"at least {WANTED_RATIO}",
            found(ratios),
            statistics.median(ratios) >= WANTED_RATIO,
        ),
        Goal(f"where the time of {past.label} goes", "shares that add up to 100 %", told, True),
    ]


def _earlier(text: str) -> Result:
    # As the options are read: a wrong file must not be found after ten minutes of measuring.
    try:
        return read_result(Path(text))
    except (BadResult, FileNotFoundError) as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two short runs of the fewest points")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--profile", action="store_true", help="also sample the worker (py-spy)")
    parser.add_argument("--before", type=_earlier, help="an earlier result file to compare with")
    add_machine_option(parser)
    return parser.parse_args()


def _profiles(engine: Engine, machine: Machine, points: Sequence[Point]) -> list[Figure]:
    """Shares of the worker's time by what it does, sampled while a point's load runs."""
    figures: list[Figure] = []
    for point in points:

        def load(point: Point = point) -> None:
            measure_point(engine, machine, point, first=0, n_waves=2)

        try:
            sampled = sample_worker(engine.pid, load, seconds=_PROFILE_SECONDS)
        except ProfilerMissing as exc:
            # What was measured before is worth more than this.
            print(f"no samples of the worker: {exc}", file=sys.stderr)
            return figures
        group = f"worker's samples, {point.label}"
        figures += [Figure(name, "%", (share,), None, group) for name, share in sampled.items()]
    return figures


def main() -> None:
    """Measure, print the table, and write the result with `--write`."""
    options = _options()
    machine = machine_of(options, CPU)
    profile = machine.engine_profile()
    if 1 not in machine.adapters or profile.gpu_slots not in machine.adapters:
        raise MachineInvalid(f"adapters: needs 1 and the number of slots, {profile.gpu_slots}")
    past = Point(_compared(machine.adapters, profile.gpu_slots))
    runs, n_waves = options.runs, _WAVES
    if options.quick:
        runs, n_waves = 2, _QUICK_WAVES
        machine = replace(machine, adapters=tuple(sorted({1, profile.gpu_slots, past.n})))
    adapters = machine.adapters
    points = points_of(adapters, n_slots=profile.gpu_slots)
    with (
        tempfile.TemporaryDirectory() as text,
        progress_line("starting", n_steps=runs * len(points)) as say,
        started_engine(
            profile, n_adapters=max(adapters), folder=Path(text), rank=machine.ranks[0],
            on_stage=say.stage,
        ) as engine,
    ):  # fmt: skip
        rows = measure(engine, machine, points, runs=runs, n_waves=n_waves, say=say)
        sampled = [Point(1), Point(profile.gpu_slots), past] if options.profile else []
        profiles = _profiles(engine, machine, sampled)
        bounds = bounds_of(points, engine, find_base_folder(profile.model))
    shares = shares_of(rows, slots=Point(profile.gpu_slots), past=past)
    figures = [*figures_of(rows, points), *bounds]
    if options.before is not None:
        figures += before_figures(options.before, figures)
    goals = goals_of(rows, shares, past)
    print_figures(QUESTION, figures, goals)
    group = f"where the time goes, {past.label}"
    figures += [Figure(name, "%", values, None, group) for name, values in shares.items()]
    if profiles:
        print_figures("the worker's samples", profiles)
    if options.write:
        parameters = {"machine": machine, "waves": n_waves, "runs": runs}
        write_result(
            "adapters_on_slots", question=QUESTION, parameters=parameters,
            figures=figures + profiles, raw=rows, goals=goals, variant=machine.variant,
        )  # fmt: skip


if __name__ == "__main__":
    main()
