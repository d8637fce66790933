"""What does a tuned profile gain and give up, and what does finding it cost?

SmolLM2-135M under the long-prefill mix (every tenth prompt has 1,500 tokens), prefix caching off,
real engines. The default is our profile with max_num_batched_tokens left to vLLM, which takes 2,048
on a CPU and cuts no prompt. First the load is set: the default's pace with all requests due at once
is measured, and requests are offered at 70 % of it, near to what the machine can do and under it.
Then an exhaustive grid: every setting, the same number of rounds. Then `tune`'s search over the
same settings, from nothing. What it chose is judged in the grid's rounds, not in its own.

Throughput is bounded twice: at the offered load, where little can be lost, and with all requests
due at once, which is what the engine can do; the goal is held against the worse of the two.
Everything is kept in --work: killed and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.result import write_result
from bench.tuned_figures import Judged, judge
from serving.tuning.conclusion import conclude
from serving.tuning.engine_rounds import EngineRounds
from serving.tuning.goals import CAPACITY, THROUGHPUT, Bound, Goals
from serving.tuning.journal import open_journal
from serving.tuning.load_shape import Shape, ShapeSpec
from serving.tuning.machine import describe_machine, installed_versions
from serving.tuning.profile_file import Provenance, profile_text
from serving.tuning.race import Rules
from serving.tuning.search import Measure, Plan, State, Stop, exhaustive_step, next_step
from serving.tuning.shapes import BUILT_IN
from serving.tuning.space import Setting, Space
from serving.tuning.tune_task import Prepared, Task, prepare, shape_digest, subject_of
from serving.tuning.tuner import Told, Tuner

QUESTION = "What does a tuned profile gain and give up, and what does finding it cost?"
SHAPE = "long-prefill"
LOAD_SHARE = 0.7
"""Of the default's pace. High enough that more than one gap in a hundred is behind a long prompt:
below that the p99 falls now on one side and now on the other."""
_REQUESTS, _QUICK_REQUESTS, _QUICK_RATE = 40, 20, 4.0
_LOSS = 0.11
_RATES = (THROUGHPUT, CAPACITY)
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "dtype": "bfloat16", "gpu_slots": 2, "cpu_slots": 8, "max_rank": 8, "max_model_len": 2048,
        "enforce_eager": True, "kv_cache_gib": 2,
        "extra_arguments": ["--no-enable-prefix-caching"],
    },
    adapters=(1,),
    concurrency=1,
    n_prompt=20,
    n_output=24,
    ranks=(8,),
)  # fmt: skip
_GRID = Space(
    MappingProxyType(
        {
            "max_num_batched_tokens": (64, 128, 256, 512, 1024),
            "long_prefill_token_threshold": (0.25, 1.0),
        }
    )
)
_QUICK_GRID = Space(MappingProxyType({"max_num_batched_tokens": (64,)}))
_SEARCH = Rules(min_rounds=2, max_rounds=3, start_rounds=3)
_Choose = Callable[[Plan, State], Measure | Stop]


def task_of(machine: Machine, spec: ShapeSpec, rounds: int, *, is_quick: bool) -> Task:
    """What grid and search are asked alike."""
    bounds = (Bound(THROUGHPUT, _LOSS, is_relative=True), Bound(CAPACITY, _LOSS, is_relative=True))
    return Task(
        profile=machine.engine_profile(),
        draw=spec.draw,
        goals=Goals("gap_p99", bounds, "short"),
        rules=Rules(min_rounds=min(2, rounds), max_rounds=rounds, start_rounds=max(2, rounds)),
        space=_QUICK_GRID if is_quick else _GRID,
        has_reference=not is_quick,
        rank=machine.ranks[0],
    )


def set_load(machine: Machine, spec: ShapeSpec, work: Path, rate: float | None, say: Say) -> float:
    """Requests per second: given, kept from before, or a share of the default's pace."""
    file = work / "rate.json"
    if rate is not None:
        return rate
    if file.exists():
        return float(json.loads(file.read_text())["rate"])
    profile = machine.engine_profile()
    engines = _engines(machine, spec.draw, work / "pace")
    with engines.warm_engine(Setting.of(profile), partial(_tell, say)) as warm:
        values = [warm.measure(number, partial(_tell, say)) for number in (0, 1)]
    shape = spec.draw(0)
    per_request = shape.n_tokens / len(shape.arrivals)
    pace = sum(one[CAPACITY] for one in values) / len(values) / per_request
    work.mkdir(parents=True, exist_ok=True)
    rate = round(LOAD_SHARE * pace, 2)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps({"rate": rate, "pace": pace}))
    unfinished.replace(file)
    return rate


def _tell(say: Say, stage: str, share: float) -> None:
    say.now(f"the default's pace: {stage} {100 * share:.0f} %")


def _engines(machine: Machine, draw: Callable[[int], Shape], folder: Path) -> EngineRounds:
    return EngineRounds(
        machine.engine_profile(), draw, machine.adapters[0], "short", folder,
        rank=machine.ranks[0],
    )  # fmt: skip


def carry_out(
    machine: Machine, task: Task, prepared: Prepared, plan: Plan, folder: Path, choose: _Choose,
    say: Say,
) -> tuple[State, Stop]:  # fmt: skip
    """The grid or the search, each with a record of its own."""
    seen = -1

    def tell(told: Told) -> None:
        nonlocal seen
        n_rounds = len(told.state.rounds)
        if n_rounds != seen:
            seen = n_rounds
            say.step(folder.name)
            _print_last(folder.name, told.state)
        say.now(f"{folder.name}: {told.setting.name}, round {told.number + 1}, {told.stage} "
                f"{100 * told.share:.0f} %")  # fmt: skip

    subject = subject_of(
        task, prepared, base=machine.base, machine=describe_machine(),
        versions=installed_versions(), environment=os.environ,
    )  # fmt: skip
    with open_journal(folder, subject) as journal:
        engines = _engines(machine, task.draw, folder)
        tuner = Tuner(plan, engines, journal, prepared.assumed, tell, choose=choose)
        stop = tuner.run()
        return journal.state(prepared.assumed), stop


def _print_last(name: str, state: State) -> None:
    """A line that stays, also where standard error is a file."""
    if state.rounds:
        one = state.rounds[-1]
        figures = ", ".join(f"{key} {one.values[key]:.4g}" for key in ("gap_p99", *_RATES))
        spent = f"{state.spent_seconds / 60:.1f} engine-minutes"
        told = f"{name}: {one.setting.name}, round {one.number + 1}: {figures}; {spent} so far"
        print(told, file=sys.stderr, flush=True)


def measure(machine: Machine, options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Load, grid and search; everything that the result is made of."""
    n_requests = _QUICK_REQUESTS if options.quick else _REQUESTS
    spec = dataclasses.replace(BUILT_IN[SHAPE], requests=n_requests)
    rate = set_load(machine, spec, options.work, options.rate, say)
    spec = spec.with_rate(rate)
    task = task_of(machine, spec, options.runs, is_quick=options.quick)
    prepared = prepare(task, is_cpu=task.profile.kv_cache_gib is not None)
    run = partial(carry_out, machine, task, prepared, say=say)
    n_settings = len(prepared.plan.candidates) + 1 + (prepared.plan.reference is not None)
    costs = prepared.assumed
    minutes = n_settings * (costs.start + options.runs * costs.round) / 60
    print(
        f"{rate:g} requests/s; the grid has {n_settings} settings and takes about {minutes:.0f} "
        f"minutes, the search at most a third of that; records: {options.work}",
        file=sys.stderr,
    )
    grid, _ = run(prepared.plan, options.work / "grid", exhaustive_step)
    # A third of the grid's time is what the search may take; chunked prefill off is in the grid.
    plan = dataclasses.replace(
        prepared.plan, reference=None, budget_seconds=grid.spent_seconds / 3, rules=_SEARCH
    )
    tune, stop = grid, Stop("two settings are no search")
    if not options.quick:
        tune, stop = run(plan, options.work / "tune", next_step)
    found = conclude(plan, tune)
    judged = judge(
        plan.start, plan.goals, grid.rounds, found.chosen, grid_seconds=grid.spent_seconds,
        tune_seconds=tune.spent_seconds, reference=prepared.plan.reference,
    )  # fmt: skip
    provenance = Provenance(
        time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), describe_machine(), installed_versions(),
        machine.base, SHAPE, shape_digest(task), "bench/results/tuned_profile.json",
    )  # fmt: skip
    text = profile_text(task.profile, plan, tune, found, provenance, stop=stop.reason)
    (options.work / "tuned.yaml").write_text(text)
    return {
        "rate": rate, "task": task, "grid": grid, "tune": tune, "stop": stop.reason,
        "found": found, "judged": judged, "plan": plan, "shape": prepared.shape,
    }  # fmt: skip


def write(machine: Machine, measured: dict[str, Any], *, runs: int) -> None:
    """The result file; raw are all rounds of grid and search, in their order."""
    judged: Judged = measured["judged"]
    found, shape = measured["found"], measured["shape"]
    parameters = {
        "machine": machine,
        "runs": runs,
        "rounds_of_the_search": dataclasses.asdict(_SEARCH),
        "default": "max_num_batched_tokens left to vLLM: 2048 on a CPU; no prompt is cut",
        "shape": SHAPE,
        "requests": len(shape.arrivals),
        "requests_per_second": measured["rate"],
        "offered_tokens_per_second": round(shape.offered_tokens_per_second, 1),
        "load_share_of_the_defaults_pace": LOAD_SHARE,
        "goal": measured["plan"].goals.text,
        "chosen": found.chosen.name,
        "why": found.reason,
        "search_ended_because": measured["stop"],
        "grids_best": judged.best.name if judged.best else None,
        "failed": {s.name: why for s, why in measured["grid"].failed.items()},
    }
    raw = {name: [_row(one) for one in measured[name].rounds] for name in ("grid", "tune")}
    path = write_result(
        "tuned_profile", question=QUESTION, parameters=parameters, figures=judged.figures,
        goals=judged.goals, raw=raw, variant=machine.variant,
    )  # fmt: skip
    print(path)


def _row(one: Any) -> dict[str, Any]:
    return {
        "setting": one.setting.to_json(),
        "number": one.number,
        "values": dict(one.values),
        "seconds": one.seconds,
    }


def main() -> None:
    """Print the figures, write them with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, help="rounds of each setting of the grid (default: 4)")
    parser.add_argument("--rate", type=float, help="requests per second instead of a share")
    parser.add_argument("--work", type=Path, help="folder of the records (default: .bench/...)")
    parser.add_argument("--fresh", action="store_true", help="forget the records and begin anew")
    parser.add_argument("--quick", action="store_true", help="two settings, the tiny base")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    add_machine_option(parser)
    options = parser.parse_args()
    machine = machine_of(options, CPU)
    if options.quick:
        machine = dataclasses.replace(machine, base="tiny")
        options.rate = options.rate or _QUICK_RATE
    options.runs = options.runs or (2 if options.quick else 4)
    name = "tuned_profile_quick" if options.quick else "tuned_profile"
    options.work = options.work or Path(".bench") / name
    if options.fresh or options.quick:
        shutil.rmtree(options.work, ignore_errors=True)
    n_settings = 2 if options.quick else 12
    with progress_line("starting", n_steps=n_settings * options.runs + options.runs * 4) as say:
        measured = measure(machine, options, say)
    judged: Judged = measured["judged"]
    # Two settings are no grid to hold a search against.
    print_figures(QUESTION, judged.figures, () if options.quick else judged.goals)
    print(f"chosen: {measured['found'].chosen.name}; {measured['found'].reason}")
    if options.write and not options.quick:
        write(machine, measured, runs=options.runs)


if __name__ == "__main__":
    main()
