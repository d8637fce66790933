"""An engine of arithmetic: the scheduler's rules and a price per step, no model and no time.

Faithful in what `tune` searches over. tests/unit/tuning/test_fake_engine.py holds its figures
against the recorded grid of a real engine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.space import Setting


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds; arbitrary, of the order of a small model's on two cores."""

    step: float = 0.030
    prompt_token: float = 0.0009
    answer_token: float = 0.002
    budget: int = 2048
    """Where the setting leaves it to vLLM."""


MEASURED = Prices(step=0.045, prompt_token=0.0012, answer_token=0.012)
"""Of SmolLM2-135M in bfloat16 on two cores: fitted to bench/results/tuned_profile.json."""


@dataclass(slots=True)
class _Asked:
    due: Arrival
    n_done: int = 0
    token_at: list[float] = field(default_factory=list)


def figures(
    setting: Setting, shape: Shape, *, kind: str | None = None, prices: Prices | None = None
) -> dict[str, float]:
    """What a round gives, without noise."""
    prices = prices or Prices()
    offered = _run(setting, shape.arrivals, prices)
    at_once = [
        Arrival(0.0, one.n_prompt, one.n_output, one.adapter, one.kind) for one in shape.arrivals
    ]
    packed = _run(setting, at_once, prices)
    looked_at = [one for one in offered if kind in (None, one.due.kind)]
    gaps = 1000 * np.concatenate([np.diff(one.token_at) for one in looked_at])
    first = np.array([1000 * (one.token_at[0] - one.due.at) for one in looked_at])
    last = np.array([1000 * (one.token_at[-1] - one.due.at) for one in looked_at])
    return {
        "gap_p50": float(np.percentile(gaps, 50)),
        "gap_p99": float(np.percentile(gaps, 99)),
        "gap_max": float(gaps.max()),
        "ttft_p50": float(np.percentile(first, 50)),
        "ttft_p99": float(np.percentile(first, 99)),
        "e2e_p50": float(np.percentile(last, 50)),
        "e2e_p99": float(np.percentile(last, 99)),
        "throughput": _rate(offered),
        "capacity": _rate(packed),
        "n_failed": 0.0,
        "peak_in_flight": float(_peak(offered)),
    }


def _rate(asked: list[_Asked]) -> float:
    n_tokens = sum(one.due.n_prompt + one.due.n_output for one in asked)
    return n_tokens / (max(one.token_at[-1] for one in asked) - asked[0].due.at)


def _peak(asked: list[_Asked]) -> int:
    edges = sorted(edge for one in asked for edge in ((one.due.at, 1), (one.token_at[-1], -1)))
    return int(max(np.cumsum([step for _, step in edges])))


def _run(
    setting: Setting, arrivals: tuple[Arrival, ...] | list[Arrival], prices: Prices
) -> list[_Asked]:
    asked = [_Asked(arrival) for arrival in arrivals]
    waiting, running, now = deque(asked), list[_Asked](), 0.0
    while waiting or running:
        if not running and waiting[0].due.at > now:
            now = waiting[0].due.at
        now = _step(setting, waiting, running, now, prices)
    return asked


def _step(
    setting: Setting, waiting: deque[_Asked], running: list[_Asked], now: float, prices: Prices
) -> float:
    left = setting.max_num_batched_tokens or prices.budget
    n_due = sum(one.due.at <= now for one in waiting)
    # vLLM 0.32 does not cut the prompt of a request that is alone.
    is_cut = len(running) + n_due > 1
    most = setting.long_prefill_token_threshold if is_cut else None
    scheduled: list[tuple[_Asked, int]] = []
    for one in running:
        n_tokens = _wanted(one, most, left)
        left -= n_tokens
        scheduled.append((one, n_tokens))
    while waiting and waiting[0].due.at <= now and len(running) < (setting.max_num_seqs or 128):
        n_tokens = _wanted(waiting[0], most, left)
        if n_tokens < waiting[0].due.n_prompt and not setting.enable_chunked_prefill:
            break
        if not n_tokens:
            break
        left -= n_tokens
        running.append(waiting.popleft())
        scheduled.append((running[-1], n_tokens))
    return _compute(scheduled, running, now, prices)


def _wanted(one: _Asked, most: int | None, left: int) -> int:
    n_tokens = max(1, one.due.n_prompt - one.n_done)
    return min(n_tokens, most or n_tokens, left)


def _compute(
    scheduled: list[tuple[_Asked, int]], running: list[_Asked], now: float, prices: Prices
) -> float:
    seconds = prices.step
    for one, n_tokens in scheduled:
        is_prompt = one.n_done < one.due.n_prompt
        seconds += n_tokens * (prices.prompt_token if is_prompt else prices.answer_token)
    now += seconds
    for one, n_tokens in scheduled:
        one.n_done += n_tokens
        if n_tokens and one.n_done >= one.due.n_prompt:
            one.token_at.append(now)
            if len(one.token_at) == one.due.n_output:
                running.remove(one)
    return now
