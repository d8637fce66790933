"""What does tenancy cost a request: inside the engine process, and beside LiteLLM and Envoy?

Two parts. First two real servers on the tiny base, vLLM alone and ours, alive at the same time,
asked in turn for one token: by one client, with timers in both processes around our middleware and
around the five functions of vLLM that we hook (`bench.asgi_timing`), then by eight. What tenancy
adds in process is ours minus vLLM alone, over the same functions; what our journal traces and
counts later, for which no request waits, is told apart (`beside requests`). Then an upstream that
answers at once: asked directly, behind our middleware with a real runtime, through Envoy, and
through LiteLLM's proxy, in blocks in turn. `--before REVISION` measures ours of that revision too,
after ours and beside a vLLM of its own: a third engine would take from two cores what it costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.fixtures.base_model import tiny_base
from bench.gateways import ENVOY_WORKERS, LITELLM, Door, envoy, litellm, null_upstream
from bench.http_load import (
    Loaded,
    LoadFailed,
    NothingAnswered,
    Request,
    client_name,
    offer,
)
from bench.null_upstream import PATH
from bench.overhead_figures import (
    ALONE,
    BEFORE,
    DIRECT,
    MIDDLEWARE,
    ONE,
    added_figures,
    client_figures,
    goals_of,
    in_process,
    ratio_figures,
    summary,
)
from bench.result import Figure, Goal, write_result
from bench.vllm_pair import Side, running_sides
from serving.engine.profile import EngineProfile, parse_profile

QUESTION = "What does tenancy cost a request, in process and beside LiteLLM and Envoy?"
_MANY, _ENGINE_MANY = 16, 8
_TRIES = 4
"""Of a stretch without any answer; each is told on stderr."""
_BLOCKS = 5
"""Of each variant in a run, in turn; a run's figure is the median of its blocks'."""
_PROFILE = {
    "gpu_slots": 2, "cpu_slots": 8, "max_rank": 8, "dtype": "float32", "max_model_len": 512,
    "max_num_batched_tokens": 256, "enforce_eager": True, "kv_cache_gib": 1,
    "long_prefill_token_threshold": 64,
}  # fmt: skip
Offer = Callable[[Request, int, float], Loaded]


def measure_blocks(
    requests: Mapping[str, Request], run: int, ask: Offer, *, many: int, seconds: float
) -> list[dict[str, Any]]:
    """A run: every variant in turn with one connection, `_BLOCKS` times, then with `many` once.

    Each block starts one variant further on, so that none is always first.
    """
    names, rows = list(requests), []
    for block in range(_BLOCKS + 1):
        # A rate needs more requests than a latency does: LiteLLM answers some sixty a second.
        connections, lasts = (ONE, seconds) if block < _BLOCKS else (many, 2 * seconds)
        shift = (run + block) % len(names)
        for name in names[shift:] + names[:shift]:
            started = time.time()
            loaded = ask(requests[name], connections, lasts)
            rows.append(
                {
                    "run": run,
                    "name": name,
                    "connections": connections,
                    "p50_us": round(loaded.p50_us, 1),
                    "p99_us": round(loaded.p99_us, 1),
                    "per_second": round(loaded.requests_per_second, 2),
                    "n": loaded.n_requests,
                    "from": round(started, 3),
                    "to": round(time.time(), 3),
                }
            )
    return rows


def _offer(request: Request, connections: int, seconds: float) -> Loaded:
    # Three engines on two cores: one of them may get none for a second.
    for _ in range(_TRIES - 1):
        try:
            return offer(request, connections=connections, seconds=seconds)
        except NothingAnswered as exc:
            print(f"asked again: {exc}", file=sys.stderr)
    return offer(request, connections=connections, seconds=seconds)


def _warm(requests: Mapping[str, Request], say: Say, *, many: int) -> None:
    """The first requests of a server import and compile; LiteLLM's take seconds.

    With as many connections as are measured: a first batch of another size is another first one.
    """
    for name, request in requests.items():
        say.now(f"warming {name}")
        for attempt in range(10):
            try:
                offer(request, connections=ONE, seconds=1.0)
                offer(request, connections=many, seconds=2.0)
                break
            except LoadFailed:
                if attempt == 9:
                    raise


def _engines(
    folder: Path, *, runs: int, seconds: float, revision: str | None, say: Say
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, list[float]]]]]:
    profile: EngineProfile = parse_profile({"model": str(tiny_base()), **_PROFILE})
    folder.mkdir()
    with running_sides(profile, folder, revision=revision, on_stage=say.stage) as sides:
        requests = {side.name: _completion(side) for side in sides}
        _warm(requests, say, many=_ENGINE_MANY)
        rows: list[dict[str, Any]] = []
        for run in range(runs):
            say.step(f"run {run + 1} of {runs}: {' and '.join(requests)}")
            rows += measure_blocks(requests, run, _offer, many=_ENGINE_MANY, seconds=seconds)
        lines = {side.name: side.times.read_text().splitlines() for side in sides}
    timed = {
        name: [in_process(lines[name], _alone_blocks(rows, run, name)) for run in range(runs)]
        for name in lines
    }
    return rows, timed


def _alone_blocks(
    rows: Sequence[Mapping[str, Any]], run: int, name: str
) -> list[Mapping[str, Any]]:
    wanted = (run, name, ONE)
    return [row for row in rows if (row["run"], row["name"], row["connections"]) == wanted]


def _gateways(folder: Path, *, runs: int, seconds: float, say: Say) -> list[dict[str, Any]]:
    folder.mkdir()
    with ExitStack() as stack:
        direct = stack.enter_context(null_upstream(DIRECT, "alone", folder, on_stage=say.stage))
        doors = [
            direct,
            stack.enter_context(null_upstream(MIDDLEWARE, "ours", folder, on_stage=say.stage)),
            stack.enter_context(envoy(direct, folder, on_stage=say.stage)),
            stack.enter_context(litellm(direct, folder, on_stage=say.stage)),
        ]
        requests = {door.name: _chat(door) for door in doors}
        _warm(requests, say, many=_MANY)
        rows: list[dict[str, Any]] = []
        for run in range(runs):
            say.step(f"run {run + 1} of {runs}: gateways")
            rows += measure_blocks(requests, run, _offer, many=_MANY, seconds=seconds)
    return rows


def _completion(side: Side) -> Request:
    body = {"model": "synthetic", "prompt": "number 7", "max_tokens": 1, "temperature": 0}
    return Request(f"{side.url}/v1/completions", side.key, json.dumps(body).encode())


def _chat(door: Door) -> Request:
    body = {
        "model": "support", "messages": [{"role": "user", "content": "number 7"}], "max_tokens": 1,
    }  # fmt: skip
    return Request(door.url + PATH, door.key, json.dumps(body).encode())


def _n_rounds(options: argparse.Namespace) -> int:
    """Of the gateways, of vLLM alone and ours, and of vLLM alone and ours before."""
    return 1 if options.quick else 2 + (options.before is not None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run, without the real engines")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--before", metavar="REVISION", help="measure ours of a git revision too")
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables, and write the result with `--write`."""
    options = _options()
    runs, seconds = (1, 1.0) if options.quick else (options.runs, 1.0)
    raw: dict[str, Any] = {}
    figures: list[Figure] = []
    goals: list[Goal] = []
    with (
        tempfile.TemporaryDirectory() as text,
        progress_line("starting", n_steps=_n_rounds(options) * runs) as say,
    ):
        if not options.quick:
            for revision in (None, options.before)[: _n_rounds(options) - 1]:
                rows, timed = _engines(
                    Path(text) / f"engines-{revision}", runs=runs, seconds=seconds,
                    revision=revision, say=say,
                )  # fmt: skip
                when = "" if revision is None else "_before"
                raw[f"engine_blocks{when}"], raw[f"in_process{when}"] = rows, summary(timed)
                seen = client_figures(rows, reference=ALONE)
                figures += added_figures(timed)
                figures += [one for one in seen if revision is None or one.group == BEFORE]
            goals = goals_of(figures)
        raw["gateway_blocks"] = _gateways(
            Path(text) / "gateways", runs=runs, seconds=seconds, say=say
        )
    figures += client_figures(raw["gateway_blocks"], reference=DIRECT)
    figures += ratio_figures(raw["gateway_blocks"])
    print_figures(QUESTION, figures, goals)
    if options.write:
        parameters = {
            "runs": runs, "client": client_name(), "block_seconds": seconds, "blocks": _BLOCKS,
            "connections": {"latency": ONE, "gateways": _MANY, "engines": _ENGINE_MANY},
            "litellm": LITELLM, "envoy_workers": ENVOY_WORKERS, "before": options.before,
            "profile": _PROFILE,
        }  # fmt: skip
        write_result(
            "tenancy_overhead", question=QUESTION, parameters=parameters, figures=figures,
            raw=raw, goals=goals,
        )  # fmt: skip


if __name__ == "__main__":
    main()
