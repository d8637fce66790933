"""What the miss-ratio curve costs per request, and how far its sampled form is from the exact one.

Needs no engine; about three minutes on one core. Traces are drawn before the clock starts. Every
adapter is known before, so that each measured request has a distance. Costs are processor time of
`Locality.access` with its three windows, the closing of segments included; the median and the range
of several repeats.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import describe_environment
from serving.capacity.curve import Curve
from serving.capacity.fleet import FleetLocality
from serving.capacity.hot_set import HotSets
from serving.capacity.locality import MAX_NAMES, Locality
from serving.capacity.stack_distance import StackDistances

N_REQUESTS = 100_000
REQUESTS_PER_SECOND = 100.0
SIZES = (100, 1_000, 10_000, 100_000)
TRACES = {"uniform": 0.0, "zipf": 1.0}
"""Exponents: the k-th adapter is asked for 1 / k^exponent as often as the first."""
ENGINE_COUNTS = (1, 2, 3, 4)
SLOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)

Use = Callable[[str, float], object]


def _draw(n_names: int, exponent: float, n_requests: int, *, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_names + 1) ** exponent
    order = generator.permutation(n_names)
    drawn = generator.choice(order, size=n_requests, p=weights / weights.sum())
    return [f"tenant-{index}/support@1" for index in drawn]


def _cost(use: Use, n_names: int, trace: list[str]) -> float:
    """Microseconds per request."""
    at = 0.0
    for index in range(n_names):
        use(f"tenant-{index}/support@1", at)
    started = time.process_time()
    for name in trace:
        at += 1 / REQUESTS_PER_SECOND
        use(name, at)
    return 1e6 * (time.process_time() - started) / len(trace)


def _stack_alone() -> Use:
    access = StackDistances().access
    return lambda name, _: access(name)


SUBJECTS: dict[str, Callable[[], Use]] = {
    "stack_distance": _stack_alone,
    "curve_exact": lambda: Locality(max_names=1 << 30).access,
    "curve_sampled": lambda: Locality().access,
    "fleet_of_1_to_4_engines": lambda: FleetLocality(ENGINE_COUNTS).access,
    "hot_sets": lambda: HotSets().used,
}


def costs(n_repeats: int) -> Iterator[dict[str, Any]]:
    """One row per number of adapters, trace and subject."""
    for n_names in SIZES:
        for trace_name, exponent in TRACES.items():
            traces = [_draw(n_names, exponent, N_REQUESTS, seed=seed) for seed in range(n_repeats)]
            for subject, make in SUBJECTS.items():
                if subject == "curve_sampled" and n_names <= MAX_NAMES:
                    continue
                found = sorted(_cost(make(), n_names, trace) for trace in traces)
                yield {
                    "adapters": n_names,
                    "trace": trace_name,
                    "subject": subject,
                    "microseconds": round(found[len(found) // 2], 3),
                    "range": [round(found[0], 3), round(found[-1], 3)],
                }


def errors(n_repeats: int) -> Iterator[dict[str, Any]]:
    """Sampled against exact: points of the miss ratio, over slot counts and repeats."""
    for n_names, exponent in ((20_000, 0.7), (20_000, 1.0), (100_000, 0.7), (100_000, 1.0)):
        found, rate = [], 1.0
        for seed in range(n_repeats):
            trace = _draw(n_names, exponent, 4 * N_REQUESTS, seed=seed)
            exact, sampled = Locality(max_names=1 << 30), Locality()
            found.append(_differences(_curve(exact, trace), _curve(sampled, trace)))
            rate = sampled.sample_rate
        points = 100 * np.array(found)
        yield {
            "adapters": n_names,
            "zipf_exponent": exponent,
            "rate": rate,
            "mean_error_points": round(float(points.mean()), 3),
            "largest_error_points": round(float(points.max()), 3),
            "largest_at_slots": SLOTS[int(points.max(axis=0).argmax())],
        }


def _curve(locality: Locality, trace: list[str]) -> Curve:
    at = 0.0
    for name in trace:
        at += 1 / REQUESTS_PER_SECOND
        locality.access(name, at)
    return locality.curve(86400.0, at)


def _differences(exact: Curve, sampled: Curve) -> list[float]:
    n_requests = exact.n_requests
    return [abs(exact.misses(slots) - sampled.misses(slots)) / n_requests for slots in SLOTS]


def _shown(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = []
    for row in rows:
        print(json.dumps(row), flush=True)
        kept.append(row)
    return kept


def main() -> None:
    """Print one JSON line per row; all of them and the environment to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    environment = describe_environment()
    cost_rows, error_rows = _shown(costs(options.repeats)), _shown(errors(3))
    if options.out:
        document = {
            "environment": environment,
            "n_requests": N_REQUESTS,
            "n_repeats": options.repeats,
            "max_names": MAX_NAMES,
            "costs": cost_rows,
            "errors": error_rows,
        }
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
