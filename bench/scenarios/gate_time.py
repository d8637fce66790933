"""Where does a gate's time go? A tool-call suite with gold, a trained adapter, a real engine.

The report's own seconds by stage. Each run has a suite of other cases, judged twice: from nothing,
and once more (what the standalone side knows by content is not computed twice). Overhead is what
neither the engine nor the standalone model spent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.fixtures.adapters import make_random_adapters, trained_adapter
from bench.fixtures.base_model import smol_base, tiny_base
from bench.fixtures.tool_calls import ACME, held_out_cases, training_cases
from bench.fleet import Fleet, running_fleet
from bench.result import Figure, write_result

Json = dict[str, Any]
QUESTION = "Where does a gate's time go?"
FIRST, AGAIN = "from nothing", "once more"
_COMPUTE = (
    "reference",
    "runner",
    "load",
    "candidate",
    "live",
    "noise",
    "verify",
    "continue",
    "judge",
)
_PROFILE = {
    "gpu_slots": 4,
    "cpu_slots": 16,
    "max_rank": 16,
    "max_model_len": 1024,
    "max_num_batched_tokens": 512,
    "enforce_eager": True,
    "kv_cache_gib": 1,
}


def suite_of(*, run: int, n_runs: int, n_cases: int, max_tokens: int) -> str:
    """The suite of a run: every `n_runs`-th of the first `n_cases` cases, as JSON lines."""
    cases = [*held_out_cases(), *training_cases()][run:n_cases:n_runs]
    return "\n".join(
        json.dumps(
            {
                "id": case.id,
                "messages": [{"role": "user", "content": case.prompt}],
                "max_tokens": max_tokens,
                "segment": f"segment{number % 4}",
                "expect": {"tool_calls": [{"name": case.tool, "arguments": case.arguments}]},
            }
        )
        for number, case in enumerate(cases)
    )


def _row(report: dict[str, Any]) -> dict[str, Any]:
    seconds = report["seconds_by_stage"]
    compute = sum(seconds.get(name, 0.0) for name in _COMPUTE)
    return {
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "seconds_by_stage": seconds,
        "reused_stages": report["reused_stages"],
        "overhead_ratio": (seconds["total"] - compute) / compute,
        "n_divergences": len(report["divergences"]),
        "numeric": report["numeric"],
        "answer": report["answer"],
        "detectable": report["detectable"],
        "pass_rate": report["task"]["metrics"]["pass_rate"],
    }


def _measure(fleet: Fleet, adapter: Path, options: argparse.Namespace, say: Say) -> list[Json]:
    fleet.call("POST", "/v1/tenants", json={"id": "acme"})
    rows = []
    for run in range(options.runs):
        suite = suite_of(
            run=run, n_runs=options.runs, n_cases=options.cases, max_tokens=options.max_tokens
        )
        fleet.call("PUT", f"/v1/tenants/acme/suites/tools{run}", content=suite)
        say.now(f"run {run + 1}: from nothing")
        version = fleet.push(f"acme/support{run}", adapter, suite=f"tools{run}", promote="manual")
        fleet.wait(version, seconds=3600)
        rows.append({"run": run, "from": FIRST, **_row(fleet.report(version))})
        say.now(f"run {run + 1}: once more")
        fleet.call("POST", f"{version}/evaluate", json={"reason": "a benchmark's second round"})
        fleet.wait(version, seconds=3600)
        rows.append({"run": run, "from": AGAIN, **_row(fleet.report(version))})
        say.step("next")
    return rows


def figures_of(rows: Sequence[Json], *, n_cases: int) -> list[Figure]:
    """Seconds a case of each stage, from nothing and once more; a stage that was kept takes none.

    `n_cases`: of one run.
    """
    stages = list(dict.fromkeys(stage for row in rows for stage in row["seconds_by_stage"]))
    figures = []
    for kind in (FIRST, AGAIN):
        runs = [row for row in rows if row["from"] == kind]
        for stage in stages:
            values = tuple(_seconds(row, stage) / n_cases for row in runs)
            figures.append(Figure(kind, "s a case", values, "lower", stage))
        overheads = tuple(100 * row["overhead_ratio"] for row in runs)
        figures.append(Figure(kind, "%", overheads, "lower", "overhead"))
    return figures


def _seconds(row: Json, stage: str) -> float:
    # The report repeats what a kept stage took when it was computed.
    is_kept = stage in row["reused_stages"]
    return 0.0 if is_kept else float(row["seconds_by_stage"].get(stage, 0.0))


def _world(folder: Path, *, is_quick: bool) -> tuple[Path, Path]:
    """Base and adapter: small and real, or only as quick as the path between them can be."""
    if not is_quick:
        return smol_base(), trained_adapter(ACME)
    base = tiny_base()
    return base, make_random_adapters(1, base=base, folder=folder / "adapters", rank=16)[0]


def main() -> None:
    """Print the stages' seconds; write the result with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="four cases, the tiny base")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--cases", type=int, default=100, help="of all runs together")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.cases, options.max_tokens = 1, 4, 8
    profile = {**_PROFILE, "dtype": options.dtype}
    with (
        tempfile.TemporaryDirectory() as text,
        progress_line("starting a fleet", n_steps=options.runs) as say,
    ):
        base, adapter = _world(Path(text), is_quick=options.quick)
        with running_fleet(base, Path(text) / "fleet", profile=profile) as fleet:
            rows = _measure(fleet, adapter, options, say)
    figures = figures_of(rows, n_cases=options.cases // options.runs)
    print_figures(QUESTION, figures)
    if options.write:
        about = {"runs": options.runs, "cases": options.cases, "max_tokens": options.max_tokens}
        write_result(
            "gate_time", question=QUESTION, parameters={**about, "profile": profile},
            figures=figures, raw=rows,
        )  # fmt: skip


if __name__ == "__main__":
    main()
