"""Searches for profiles under the long-prefill mix, on engines of arithmetic."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

from serving.engine.profile import EngineProfile
from serving.tuning.goals import CAPACITY, THROUGHPUT, Bound, Goals
from serving.tuning.race import Round, Rules
from serving.tuning.search import Costs, Measure, Plan, State, Stop, next_step
from serving.tuning.shapes import BUILT_IN, Shape
from serving.tuning.space import Setting, Space
from serving.tuning.tune_task import Task, prepare
from serving.tuning.tuner import Say, SettingFailed
from tests.fakes.tuned_engine import Prices, figures

START_SECONDS, ROUND_SECONDS = 60.0, 27.0
PROFILE = EngineProfile(
    model="base", gpu_slots=2, cpu_slots=8, max_rank=8, max_model_len=2048, kv_cache_gib=1
)
GRID = Space(
    {
        "max_num_batched_tokens": (64, 128, 256, 512, 1024),
        "long_prefill_token_threshold": (0.25, 1.0),
    }
)
_LATENCIES = ("gap_p50", "gap_p99", "gap_max", "ttft_p50", "ttft_p99", "e2e_p50", "e2e_p99")


def draw(number: int) -> Shape:
    spec = replace(BUILT_IN["long-prefill"], requests=50)
    return spec.with_rate(3.3).draw(number)


def task(*, limit: float = 0.15, budget_seconds: float = 560.0, space: Space = GRID) -> Task:
    bounds = (Bound(THROUGHPUT, limit, is_relative=True), Bound(CAPACITY, limit, is_relative=True))
    return Task(
        profile=PROFILE,
        draw=draw,
        goals=Goals("gap_p99", bounds, "short"),
        rules=Rules(min_rounds=2, max_rounds=3, start_rounds=3),
        space=space,
        has_reference=False,
        budget_seconds=budget_seconds,
    )


def plan(*, limit: float = 0.15, budget_seconds: float = 560.0) -> Plan:
    return prepare(task(limit=limit, budget_seconds=budget_seconds), is_cpu=True).plan


@cache
def exact(setting: Setting, number: int, prices: Prices) -> Mapping[str, float]:
    """Without noise."""
    return figures(setting, draw(number), kind="short", prices=prices)


@dataclass
class NoisyEngines:
    """Rounds with the noise of a seed; `broken` settings do not start. Keeps what was asked."""

    seed: int = 0
    latency_noise: float = 0.05
    rate_noise: float = 0.01
    prices: Prices = field(default_factory=Prices)
    broken: frozenset[Setting] = frozenset()
    n_started: int = 0
    n_up: int = 0
    stop_after: int | None = None
    n_measured: int = 0

    def values(self, setting: Setting, number: int) -> dict[str, float]:
        noise = random.Random(f"{self.seed} {setting.name} {number}")
        values = dict(exact(setting, number, self.prices))
        for name in (*_LATENCIES, THROUGHPUT, CAPACITY):
            share = self.latency_noise if name in _LATENCIES else self.rate_noise
            values[name] *= math.exp(noise.gauss(0, share))
        return values

    @contextmanager
    def warm_engine(self, setting: Setting, say: Say) -> Iterator[WarmNoisy]:
        say("engine starting", 0.0)
        self.n_started += 1
        if setting in self.broken:
            raise SettingFailed("no such memory\x1b[31m\u2028- not: a list")
        self.n_up += 1
        assert self.n_up == 1
        try:
            yield WarmNoisy(self, setting)
        finally:
            self.n_up -= 1


@dataclass
class WarmNoisy:
    engines: NoisyEngines
    setting: Setting

    def measure(self, number: int, say: Say) -> Mapping[str, float]:
        say("offered load", 0.5)
        if self.engines.n_measured == self.engines.stop_after:
            raise KeyboardInterrupt
        self.engines.n_measured += 1
        return self.engines.values(self.setting, number)


class Clock:
    """Every look at it is a quarter of a minute later."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 15.0
        return self.seconds


def race(search: Plan, engines: NoisyEngines) -> tuple[State, Stop]:
    """A whole search without files; starts and rounds cost what they cost on two cores."""
    state = State(costs=Costs(START_SECONDS, ROUND_SECONDS))
    while isinstance(step := next_step(search, state), Measure):
        seconds = ROUND_SECONDS
        if step.setting != state.is_running:
            seconds += START_SECONDS
        values = engines.values(step.setting, step.number)
        state = replace(
            state,
            rounds=(*state.rounds, Round(step.setting, step.number, values, ROUND_SECONDS)),
            spent_seconds=state.spent_seconds + seconds,
            is_running=step.setting,
        )
    return state, step
