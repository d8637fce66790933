"""Samples -> series over time, for pictures. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from serving.controller.capacity.sampling import BUCKET_SECONDS, COUNTED, Sample
from serving.controller.capacity.schemas import AdapterHistoryOut, EngineHistoryOut, HistoryOut

_DECODER = msgspec.json.Decoder(Sample)


@dataclass(frozen=True, slots=True)
class Steps:
    """Equal steps that end with the present; a step is a whole number of sampling intervals."""

    start: int
    seconds: int
    n: int

    @classmethod
    def covering(cls, seconds: float, points: int, now: float) -> Steps:
        """At most `points` steps over the last `seconds`."""
        n_buckets = max(1, math.ceil(seconds / points / BUCKET_SECONDS))
        step = n_buckets * BUCKET_SECONDS
        n = max(1, math.ceil(seconds / step))
        end = (int(now) // step + 1) * step
        return cls(end - n * step, step, n)

    def index(self, at: int) -> int:
        """Which step a moment is in; may be outside of 0 .. n - 1."""
        return (at - self.start) // self.seconds


@dataclass(slots=True)
class _Adapter:
    requests: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    buckets_in_slot: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


def make_history(
    samples: Iterable[tuple[str, int, str]], steps: Steps, *, n_adapters: int
) -> HistoryOut:
    """Series of `samples` (engine, start of interval, `Sample` as JSON), oldest first.

    A step without a sample is null: not sampled is not zero.
    """
    engines: dict[str, EngineHistoryOut] = {}
    adapters: defaultdict[str, _Adapter] = defaultdict(_Adapter)
    sampled: defaultdict[int, set[int]] = defaultdict(set)
    for engine, bucket, text in samples:
        step = steps.index(bucket)
        if not 0 <= step < steps.n:
            continue
        sample = _DECODER.decode(text)
        _add(engines.setdefault(engine, _empty(steps.n)), step, sample)
        sampled[step].add(bucket)
        for name, values in sample.adapters.items():
            adapters[name].requests[step] += values[0]
        for name in sample.active:
            adapters[name].buckets_in_slot[step].add(bucket)
    totals = Counter({name: sum(item.requests.values()) for name, item in adapters.items()})
    busiest = sorted(totals, key=lambda name: (-totals[name], name))[:n_adapters]
    return HistoryOut(
        step_seconds=steps.seconds,
        times=[float(steps.start + place * steps.seconds) for place in range(steps.n)],
        engines=dict(sorted(engines.items())),
        adapters=[_series(name, adapters[name], sampled, steps.n) for name in busiest],
    )


def _empty(n: int) -> EngineHistoryOut:
    return EngineHistoryOut.model_validate(
        {name: [None] * n for name in EngineHistoryOut.model_fields}
    )


def _add(engine: EngineHistoryOut, step: int, sample: Sample) -> None:
    for name, value in zip(COUNTED, sample.total, strict=True):
        series: list[int | None] = getattr(engine, name)
        series[step] = (series[step] or 0) + value
    engine.hot_1m[step] = sample.hot_1m
    engine.active[step] = len(sample.active)


def _series(
    name: str, adapter: _Adapter, sampled: dict[int, set[int]], n: int
) -> AdapterHistoryOut:
    return AdapterHistoryOut(
        name=name,
        requests=[adapter.requests.get(step, 0) if step in sampled else None for step in range(n)],
        in_slot=[
            len(adapter.buckets_in_slot.get(step, ())) / len(sampled[step])
            if step in sampled
            else None
            for step in range(n)
        ],
    )
