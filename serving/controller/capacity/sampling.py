"""Samples of an engine's counters: what was added since the last sample, kept small. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from serving.contract import AdapterCounts, EngineReport

BUCKET_SECONDS = 10
"""One sample per engine and interval. Arbitrary: fine enough to see a thrash that lasts a minute,
and a day of one engine is 8,640 rows."""
MAX_ADAPTERS = 200
"""Adapters that a sample names, the busiest; the others are one sum."""

COUNTED = ("requests", "loads_disk", "loads_cache", "evictions_slot", "evictions_cache")
"""What is sampled of each adapter, in the order of a sample's lists."""


class Mark(msgspec.Struct, frozen=True):
    """An engine's counters when its last sample was taken."""

    started_at: float
    counts: dict[str, list[int]]
    """By adapter, in the order of `COUNTED`."""


class Sample(msgspec.Struct, frozen=True):
    """What one engine counted within one interval; lists are in the order of `COUNTED`."""

    total: list[int]
    adapters: dict[str, list[int]]
    """Only what changed; trailing zeros are cut off."""
    other: list[int]
    """The sum of those that are not named."""
    active: list[str]
    """What held a slot when the sample was taken."""
    hot_1m: int | None = None


def bucket_of(at: float) -> int:
    """Number of the interval that `at` lies in; times `BUCKET_SECONDS` it is its start."""
    return int(at // BUCKET_SECONDS)


def mark_of(report: EngineReport) -> Mark:
    """The counters of a report."""
    return Mark(report.started_at, {count.name: _values(count) for count in report.counts})


def take_sample(before: Mark, report: EngineReport) -> Sample:
    """What was added since `before`.

    A later start of the engine, or a counter that went back, means that it began again at 0.
    """
    is_same_life = before.started_at == report.started_at
    known = before.counts if is_same_life else {}
    changed: dict[str, list[int]] = {}
    for count in report.counts:
        values = _values(count)
        last = known.get(count.name)
        if last == values:
            continue
        if last is not None and all(a >= b for a, b in zip(values, last, strict=True)):
            values = [a - b for a, b in zip(values, last, strict=True)]
        if any(values):
            changed[count.name] = values
    named = sorted(changed, key=lambda name: (-sum(changed[name]), name))[:MAX_ADAPTERS]
    total = _sum(changed.values())
    shown = {name: changed[name] for name in named}
    return Sample(
        total=total,
        adapters={name: _trimmed(values) for name, values in shown.items()},
        other=[a - b for a, b in zip(total, _sum(shown.values()), strict=True)],
        active=list(report.active),
        hot_1m=report.hot.get("1m"),
    )


def _values(count: AdapterCounts) -> list[int]:
    return [
        count.requests,
        count.loads_disk,
        count.loads_cache,
        count.evictions_slot,
        count.evictions_cache,
    ]


def _sum(rows: Iterable[list[int]]) -> list[int]:
    total = [0] * len(COUNTED)
    for values in rows:
        for place, value in enumerate(values):
            total[place] += value
    return total


def _trimmed(values: list[int]) -> list[int]:
    end = len(values)
    while end > 1 and values[end - 1] == 0:
        end -= 1
    return values[:end]
