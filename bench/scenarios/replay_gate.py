"""Does replay stop a bad profile and let a good one through, each time?

SmolLM2-135M, short requests with a long prefill among them, offered open loop. The load is saved as
an engine's access trace and read back as `loraplane replay` reads a recorded window. Three engines
run at the same time and are only asked when it is their turn: the current profile (what the
scenario tuned_profile chose for this load), a good candidate (the same with another max_num_seqs)
and a bad one (chunked prefill off, 4096 tokens). Each verdict is a replay of its own, of
interleaved runs of candidate and current, judged as the command judges; engines are started once,
not for each verdict.

The bad one must FAIL and the good one must PASS, three times out of three each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.fixtures.base_model import smol_base
from bench.result import Better, Figure, Goal, write_result
from serving.engine.profile import parse_profile
from serving.tuning.generator import Target
from serving.tuning.load_shape import Shape
from serving.tuning.recorded import read_recording
from serving.tuning.replay import CANDIDATE, CURRENT, Replay, Replayed, Side, run_replay
from serving.tuning.replay_order import Chosen, Order
from serving.tuning.replay_report import judged_of, result_json
from serving.tuning.rig import started_engine
from serving.tuning.shapes import BUILT_IN
from serving.tuning.slo import Slo, Slos

QUESTION = "Does replay stop a bad profile and let a good one through, three times out of three?"
_COMMON: dict[str, Any] = {
    "gpu_slots": 2, "max_rank": 8, "dtype": "bfloat16", "max_model_len": 2048,
    "enforce_eager": True, "kv_cache_gib": 1, "extra_arguments": ["--no-enable-prefix-caching"],
}  # fmt: skip
_CHUNKED = {**_COMMON, "max_num_batched_tokens": 512, "long_prefill_token_threshold": 128}
PROFILES: dict[str, dict[str, Any]] = {
    "current": {**_CHUNKED, "max_num_seqs": 64},
    "good": {**_CHUNKED, "max_num_seqs": 32},
    "bad": {**_COMMON, "enable_chunked_prefill": False, "max_num_batched_tokens": 4096,
            "max_num_seqs": 64},
}  # fmt: skip
_RATE = 1.81
"""Requests per second: tuned_profile's, 70 % of what the default can do. With much less, fewer than
one gap in a hundred would be behind a long prompt; with more than an engine can do, throughput is
its backlog's and no run ends soon."""
WINDOW = dataclasses.replace(BUILT_IN["long-prefill"].with_rate(_RATE), requests=30)
GOALS = Slos(
    (
        Slo("gap_p99", 2.0, "short", is_relative=True),
        Slo("throughput", 0.85, is_relative=True),
    )
)
"""Two times: on two shared cores, p99s of the setting that tuned_profile chose differ by a fifth
between its rounds, and a pass after three runs needs four standard errors of room."""
WANTED = {"bad": "FAIL", "good": "PASS"}
_RUNS, _MOST_RUNS = 3, 6
_QUICK_REQUESTS = 12
"""With one long prompt among them; one look after three runs, whatever it says."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One verdict."""

    candidate: str
    found: Replayed

    @property
    def verdict(self) -> str:
        """PASS, FAIL or INCONCLUSIVE."""
        return str(judged_of(self.found).verdict)


def recorded_window(shape: Shape, file: Path) -> Shape:
    """The shape after it was an access trace on disk: what a recorded window is."""
    began, lines = 1_800_000_000.0, []
    for number, arrival in enumerate(shape.arrivals):
        event = {
            "position": 2 * number, "at": began + arrival.at, "kind": "admitted",
            "adapter": f"tenant-{arrival.adapter:04d}/synthetic@1", "request": 2 * number,
            "prompt_tokens": 0, "completion_tokens": 0, "is_gate": False,
        }  # fmt: skip
        finished = {
            "position": 2 * number + 1, "kind": "finished",
            "prompt_tokens": arrival.n_prompt, "completion_tokens": arrival.n_output,
        }  # fmt: skip
        lines += [json.dumps(event), json.dumps({**event, **finished})]
    file.write_text("\n".join(lines) + "\n")
    return read_recording([file]).shape


@contextmanager
def engines(names: Sequence[str], folder: Path, say: Say) -> Iterator[dict[str, Target]]:
    """An engine of each of these profiles, all at the same time."""
    with ExitStack() as stack:
        targets = {}
        for name in names:
            profile = parse_profile({"model": str(smol_base()), **PROFILES[name]})
            started = started_engine(
                profile, n_adapters=2, folder=folder / name,
                on_stage=partial(_tell, say, name),
            )  # fmt: skip
            targets[name] = stack.enter_context(started).target
            say.step(f"{name} is ready")
        yield targets


def _tell(say: Say, name: str, text: str, seconds: float) -> None:
    say.stage(f"{name}: {text}", seconds)


def try_once(
    candidate: str, number: int, targets: dict[str, Target], say: Say, *, is_quick: bool
) -> Tried:
    """One replay, with a window and prompts of its own."""
    spec = dataclasses.replace(WINDOW, requests=_QUICK_REQUESTS) if is_quick else WINDOW
    with tempfile.TemporaryDirectory() as text:
        window = recorded_window(spec.draw(number), Path(text) / "window.jsonl")
    replay = Replay(
        shape=window,
        candidate=Side(CANDIDATE, target=targets[candidate]),
        current=Side(CURRENT, target=targets["current"]),
        slos=GOALS,
        order=Chosen(Order.INTERLEAVED, "both run already"),
        folder=Path("unused"),
        runs=_RUNS,
        most_runs=_RUNS if is_quick else _MOST_RUNS,
        seed=number + (100 if candidate == "bad" else 200),
    )
    found = run_replay(
        replay, say=lambda stage, share: say.now(f"{candidate} {number + 1}: {stage} {share:.0%}")
    )
    tried = Tried(candidate, found)
    say.step(f"{candidate} {number + 1}: {tried.verdict}")
    return tried


def measure(names: Sequence[str], n_times: int, folder: Path, *, is_quick: bool) -> list[Tried]:
    """All verdicts, of the candidates in turn."""
    n_steps = len(names) + 1 + n_times * len(names)
    with (
        progress_line("starting", n_steps=n_steps) as say,
        engines(("current", *names), folder, say) as targets,
    ):
        return [
            try_once(name, k, targets, say, is_quick=is_quick)
            for k in range(n_times)
            for name in names
        ]


def figures_of(tried: Sequence[Tried]) -> list[Figure]:
    """Per candidate: each goal's ratio to the current one, by verdict; latencies by run."""
    figures = []
    for name in dict.fromkeys(one.candidate for one in tried):
        mine = [one for one in tried if one.candidate == name]
        for place, slo in enumerate(GOALS.goals):
            ratios = tuple(judged_of(one.found).findings[place].figure for one in mine)
            better: Better = "higher" if slo.metric == "throughput" else "lower"
            label = f"{slo.figure} / the current one's"
            figures.append(Figure(label, "x", ratios, better, group=name))
        for metric in ("gap_p99", "ttft_p99"):
            for side in (CURRENT, CANDIDATE):
                values = tuple(ms for one in mine for ms in _runs_ms(one, side, metric))
                label = f"{metric.replace('_', ' ')} of short requests, {side}"
                figures.append(Figure(label, "ms", values, "lower", group=name))
        n_runs = tuple(float(len(one.found.results[CANDIDATE])) for one in mine)
        figures.append(Figure("runs of each until the verdict", "", n_runs, group=name))
    return figures


def _runs_ms(one: Tried, side: str, metric: str) -> list[float]:
    return [float(row[metric]) for row in result_json(one.found)["figures"][side]["short"]]


def goals_of(tried: Sequence[Tried]) -> list[Goal]:
    """The bad one must fail, the good one pass, each time."""
    goals = []
    for name in dict.fromkeys(one.candidate for one in tried):
        verdicts = [one.verdict for one in tried if one.candidate == name]
        n_right, n = verdicts.count(WANTED[name]), len(verdicts)
        goals.append(
            Goal(
                f"the {name} profile's verdict is {WANTED[name]}",
                f"{n} of {n}",
                f"{n_right} of {n} ({', '.join(verdicts)})",
                n_right == n,
            )
        )
    return goals


def main() -> None:
    """Print the verdicts and what they rest on; with --write, the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="verdicts of each candidate")
    parser.add_argument("--quick", action="store_true", help="one short verdict on the bad profile")
    parser.add_argument("--write", action="store_true", help="write the result file")
    options = parser.parse_args()
    names, n_times = (("bad",), 1) if options.quick else (("bad", "good"), options.runs)
    with tempfile.TemporaryDirectory() as text:
        tried = measure(names, n_times, Path(text), is_quick=options.quick)
    figures, goals = figures_of(tried), goals_of(tried)
    print_figures(QUESTION, figures, goals)
    for one in tried:
        for reason in judged_of(one.found).reasons:
            print(f"{one.candidate}: {reason}")
    if options.write:
        path = write_result(
            "replay_gate",
            question=QUESTION,
            parameters={
                "base": "SmolLM2-135M", "profiles": PROFILES, "n_verdicts": n_times,
                "goals": [slo.text for slo in GOALS.goals],
                "n_requests": _QUICK_REQUESTS if options.quick else WINDOW.requests,
                "rate_per_second": _RATE, "n_runs_per_verdict": [_RUNS, _MOST_RUNS],
            },
            figures=figures,
            goals=goals,
            raw=[{"candidate": one.candidate, **result_json(one.found)} for one in tried],
        )  # fmt: skip
        print(path)


if __name__ == "__main__":
    main()
