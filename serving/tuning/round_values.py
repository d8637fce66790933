"""One round as figures, and loads cut to what a round needs. Pure."""

from __future__ import annotations

import dataclasses
import math
from itertools import accumulate

from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult, percentile
from serving.tuning.space import Load

WARM_UP_SHARE = 0.25
"""Of a round's requests. A start's first requests are slower (pages touched first, thread pools,
adapters read from disk); a fixed share is thrown away rather than looked for, because a changepoint
test on so few requests finds one where there is none, and then settings lose different shares."""
_WARM_UP_TOKENS = 4


def values_of(
    offered: LoadResult, packed: LoadResult | None, *, kind: str | None
) -> dict[str, float]:
    """Figures by name (`goals.METRICS`): latencies in ms of one class, throughput of all classes.

    nan: not measured, or nothing was answered. `n_failed` counts requests that were not answered.
    """
    by_name = {"gap": offered.gaps(kind), "ttft": offered.ttft(kind), "e2e": offered.e2e(kind)}
    values = {
        f"{name}_p{q}": 1000 * percentile(seconds, q)
        for name, seconds in by_name.items()
        for q in (50, 99)
    }
    values["gap_max"] = 1000 * percentile(by_name["gap"], 100)
    values["throughput"] = offered.tokens_per_second
    values["capacity"] = packed.tokens_per_second if packed else math.nan
    values["n_failed"] = float(offered.n_failed + (packed.n_failed if packed else 0))
    values["peak_in_flight"] = float(peak_in_flight(offered))
    values["lag_p99"] = 1000 * percentile(offered.lag(), 99)
    return values


def peak_in_flight(result: LoadResult) -> int:
    """Most requests that were due and not ended at one time; 0 without requests."""
    edges = [(sample.due_at, 1) for sample in result.samples]
    edges += [(sample.ended_at, -1) for sample in result.samples]
    return max(accumulate(step for _, step in sorted(edges)), default=0)


def warm_up_of(shape: Shape, *, n_adapters: int = 0) -> Shape:
    """A quarter of the requests, after one short request per adapter: all of it is thrown away.

    `n_adapters`: that there are in other rounds, if more than in this one.

    The short ones first, so that no adapter is read from disk in a round that counts. They are due
    at once: the time that they take is the engine's.
    """
    first = [
        Arrival(0.0, _WARM_UP_TOKENS, _WARM_UP_TOKENS, adapter, "warm-up")
        for adapter in range(max(n_adapters, shape.n_adapters))
    ]
    n_kept = math.ceil(WARM_UP_SHARE * len(shape.arrivals))
    return Shape(f"{shape.name}, warm-up", (*first, *shape.arrivals[:n_kept]))


def packed(shape: Shape) -> Shape:
    """The same requests, all due at once: how long they take is the engine's own pace."""
    arrivals = (dataclasses.replace(arrival, at=0.0) for arrival in shape.arrivals)
    return Shape(f"{shape.name}, all at once", tuple(arrivals))


def load_of(shape: Shape) -> Load:
    """What of the shape decides which settings can differ."""
    return Load(
        longest_prompt=max((arrival.n_prompt for arrival in shape.arrivals), default=0),
        n_adapters=shape.n_adapters,
        n_requests=len(shape.arrivals),
        longest_request=shape.longest,
    )
