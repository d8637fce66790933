"""Do the gate's statistics hold? Coverage, false blocks, power and time, by simulation.

Needs no engine; about ten minutes on one core. Every row is 2,000 simulated runs unless it says
otherwise, seeds are fixed, and the bootstrap is compared with the plain percentile interval that it
stands in for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adapters.parity.comparison import Comparison, ComparisonRules, PairedScore, compare
from adapters.parity.discordance import score_interval
from adapters.parity.power import minimum_detectable_effect
from adapters.parity.resampling import paired_bootstrap, sign_flip_p

N_RUNS = 2000
CONFIDENCE = 0.95
SIZES = (47, 200, 1200)
DISCORDANCES = (0.02, 0.05, 0.1, 0.2)
SEGMENTS = {"refund_flow": 47, **{f"flow_{i}": 165 - (i > 4) for i in range(7)}}
"""1,200 cases: one small segment beside seven larger ones."""

Bounds = tuple[float, float] | None
Method = Callable[[int, int, int], Bounds]


def _values(n_worse: int, n_better: int, n: int) -> Any:
    return np.repeat([-1.0, 1.0, 0.0], [n_worse, n_better, n - n_worse - n_better])


def _score(n_worse: int, n_better: int, n: int) -> Bounds:
    return score_interval(n_worse, n_better, n, confidence=CONFIDENCE)


def _bootstrap(n_worse: int, n_better: int, n: int) -> Bounds:
    values = _values(n_worse, n_better, n)
    return paired_bootstrap(values, seed=n_worse, confidence=CONFIDENCE)


def _percentile(n_worse: int, n_better: int, n: int) -> Bounds:
    if n_worse + n_better == 0:
        return None
    shares = [n_worse / n, n_better / n, 1 - (n_worse + n_better) / n]
    drawn = np.random.default_rng(n_worse).multinomial(n, shares, size=10_000)
    means = (drawn[:, 1] - drawn[:, 0]) / n
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage_of_passes() -> Iterator[dict[str, Any]]:
    """0/1 scores: how often the interval of the pass-rate change holds the true one."""
    methods = {"score": _score, "bootstrap": _bootstrap, "percentile": _percentile}
    for n in SIZES:
        kept: dict[str, Method] = {name: cache(method) for name, method in methods.items()}
        for discordance in DISCORDANCES:
            for share in (0.0, 0.5, 0.9):
                drop = share * discordance
                chances = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
                draws = np.random.default_rng(1).multinomial(n, chances, size=N_RUNS)
                row: dict[str, Any] = {"n": n, "discordance": discordance, "drop": round(drop, 4)}
                for name, method in kept.items():
                    intervals = [method(int(b), int(c), n) for b, c, _ in draws]
                    row |= _held(name, intervals, -drop)
                yield row


def _held(name: str, intervals: list[Bounds], truth: float) -> dict[str, Any]:
    defined = [item for item in intervals if item is not None]
    held = [low - 1e-12 <= truth <= high + 1e-12 for low, high in defined]
    return {
        name: round(float(np.mean(held)), 4) if defined else None,
        f"{name}_defined": round(len(defined) / len(intervals), 4),
    }


def _dense(generator: Any, n: int) -> Any:
    return generator.beta(5, 2, size=n) - generator.beta(5, 2, size=n)


def _thirds(generator: Any, n: int) -> Any:
    sizes, signs = generator.integers(1, 4, size=n) / 3, np.where(generator.random(n) < 0.7, -1, 1)
    return np.where(generator.random(n) < 0.3, sizes * signs, 0.0)


def _sparse(generator: Any, n: int) -> Any:
    return np.where(generator.random(n) < 0.1, generator.uniform(-1, 1, size=n), 0.0)


def _skewed(generator: Any, n: int) -> Any:
    """Nine in ten a little better, one in ten much worse; the mean is exactly 0."""
    is_down = generator.random(n) < 0.1
    up = generator.uniform(0, 0.1, size=n)
    return np.where(is_down, -generator.uniform(0.1, 0.8, size=n), up)


def _skewed_up(generator: Any, n: int) -> Any:
    """The other way round: the hardest case for a test of the mean against a drop."""
    return -_skewed(generator, n)


SCORES = {
    "dense": (_dense, 0.0),
    "thirds": (_thirds, -0.08),
    "sparse": (_sparse, 0.0),
    "skewed": (_skewed, 0.0),
    "skewed_up": (_skewed_up, 0.0),
}


def coverage_of_scores() -> Iterator[dict[str, Any]]:
    """Scores between 0 and 1: the bootstrap's coverage and the level of the sign-flip test."""
    for name, (draw, truth) in SCORES.items():
        for n in SIZES:
            generator = np.random.default_rng(2)
            intervals: list[Bounds] = []
            found = 0
            for seed in range(N_RUNS):
                values = draw(generator, n)
                interval = paired_bootstrap(
                    values, seed=seed, confidence=CONFIDENCE, n_resamples=999
                )
                intervals.append(interval)
                p = sign_flip_p(values - truth, seed=seed, n_resamples=999)
                is_under = interval is None or interval.high < truth
                found += is_under and p <= 0.025
            row = {"scores": name, "n": n, **_held("bootstrap", intervals, truth)}
            yield row | {"called_worse_although_not": round(found / N_RUNS, 4)}


def _suite(seed: int, *, discordance: float, drops: dict[str, float]) -> list[PairedScore]:
    generator = np.random.default_rng(seed)
    pairs = []
    for segment, size in SEGMENTS.items():
        fall = drops.get(segment, 0.0)
        both = max(discordance, fall)
        chances = [(both + fall) / 2, (both - fall) / 2, 1 - both]
        n_worse, n_better, _ = (int(count) for count in generator.multinomial(size, chances))
        for index, value in enumerate(_values(n_worse, n_better, size)):
            before, after = float(value <= 0), float(value >= 0)
            pairs.append(PairedScore(f"{segment}-{index}", segment, before, after))
    return pairs


def _compare(pairs: list[PairedScore]) -> Comparison:
    # With 0/1 scores the bootstrap decides nothing, so it may be short here.
    rules = ComparisonRules(n_resamples=50)
    return compare(pairs, rules=rules, before_name="before", after_name="after")


def false_blocks() -> Iterator[dict[str, Any]]:
    """Suites in which nothing got worse: how often anything is called a regression."""
    for discordance in (0.01, 0.04, 0.1):
        blocked = uncorrected = unproven = 0
        for seed in range(N_RUNS):
            result = _compare(_suite(seed, discordance=discordance, drops={}))
            rows = (result.total, *result.segments)
            blocked += bool(result.regressions)
            uncorrected += any(
                row.is_above_margin and (row.worse_p or 0.0) <= result.false_block_rate
                for row in rows
            )
            unproven += result.total in result.unproven
        yield {
            "discordance": discordance,
            "n_tests": 9,
            "stated_at_most": 0.025,
            "blocked": round(blocked / N_RUNS, 4),
            "blocked_without_holm": round(uncorrected / N_RUNS, 4),
            "total_beyond_margin_unproven": round(unproven / N_RUNS, 4),
        }


def power(n_runs: int = 500) -> Iterator[dict[str, Any]]:
    """Suites in which one segment, or all of it, got worse: how often that is found."""
    for discordance in (0.02, 0.1):
        for drop in (0.1, 0.2, 0.3, 0.4):
            yield _power("refund_flow", drop, discordance, n_runs)
        for drop in (0.1, 0.15, 0.2):
            yield _power("flow_0", drop, discordance, n_runs)
        for drop in (0.01, 0.02, 0.03, 0.04):
            yield _power("total", drop, discordance, n_runs)


def _power(where: str, drop: float, discordance: float, n_runs: int) -> dict[str, Any]:
    drops = dict.fromkeys(SEGMENTS, drop) if where == "total" else {where: drop}
    results = [
        _compare(_suite(seed, discordance=discordance, drops=drops)) for seed in range(n_runs)
    ]
    found = [{row.segment for row in result.regressions} for result in results]
    return {
        "where": where,
        "n": 1200 if where == "total" else SEGMENTS[where],
        "discordance": discordance,
        "drop": drop,
        "found_and_named": round(sum(where in names for names in found) / n_runs, 3),
        "found_anywhere": round(sum(bool(names) for names in found) / n_runs, 3),
    }


def detectable() -> Iterator[dict[str, Any]]:
    """The smallest true drop found with 80 % probability, alone and among nine tests."""
    for n in (20, 47, 100, 200, 500, 1200, 4000):
        for discordance in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2):
            row: dict[str, Any] = {"n": n, "discordance": discordance}
            for n_tests in (1, 9):
                effect = minimum_detectable_effect(
                    n,
                    discordance=discordance,
                    confidence=CONFIDENCE,
                    margin=0.005,
                    n_tests=n_tests,
                )
                row[f"among_{n_tests}"] = None if effect is None else round(effect, 5)
            yield row


def seconds() -> Iterator[dict[str, Any]]:
    """10,000 resamples of 4,000 cases, the median of five; processor time says what it costs on a
    machine that does other things too, and that no second thread took part."""
    inputs = {
        "distinct scores": np.random.default_rng(3).normal(-0.01, 0.1, size=4000).clip(-1, 1),
        "passes": _values(200, 160, 4000),
    }
    for name, values in inputs.items():
        times = []
        for seed in range(5):
            started = time.perf_counter(), time.process_time()
            paired_bootstrap(values, seed=seed, confidence=CONFIDENCE, n_resamples=10_000)
            ended = time.perf_counter(), time.process_time()
            times.append([end - start for end, start in zip(ended, started, strict=True)])
        wall, processor = np.median(times, axis=0)
        yield {
            "n": 4000,
            "n_resamples": 10_000,
            "scores": name,
            "seconds": round(float(wall), 4),
            "processor_seconds": round(float(processor), 4),
        }


def _table(title: str, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    print(f"\n{title}")
    kept = []
    for index, row in enumerate(rows):
        if not index:
            print("  ".join(row))
        print("  ".join(str(value).rjust(len(name)) for name, value in row.items()))
        kept.append(row)
    return kept


def _one_row_a_line(results: dict[str, list[dict[str, Any]]]) -> str:
    tables = [
        f"{json.dumps(name)}: [\n " + ",\n ".join(json.dumps(row) for row in rows) + "\n]"
        for name, rows in results.items()
    ]
    return "{\n" + ",\n".join([f'"runs_a_row": {N_RUNS}', *tables]) + "\n}\n"


def main() -> None:
    """Print the tables, write the JSON with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {
        "time": _table("time", seconds()),
        "coverage_of_passes": _table("coverage, 0/1 scores", coverage_of_passes()),
        "coverage_of_scores": _table("coverage, other scores", coverage_of_scores()),
        "false_blocks": _table("nothing got worse", false_blocks()),
        "power": _table("something got worse", power()),
        "detectable": _table("minimum detectable effect", detectable()),
    }
    if options.out:
        options.out.write_text(_one_row_a_line(results))


if __name__ == "__main__":
    main()
