"""Load shapes: which requests are due when, of what size, for which adapter. Pure.

A `ShapeSpec` says how; with a seed it draws a `Shape`, always the same one. `shapes` has specs by
name and reads them from YAML; `recorded` makes a shape from an engine's access trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

import numpy as np

from serving.tuning.arrival_processes import Process
from serving.tuning.lengths import Length


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that will be due."""

    at: float
    """Seconds after the start."""
    n_prompt: int
    n_output: int
    """Tokens to generate; no stop word ends an answer early."""
    adapter: int
    """Index into the target's models, by popularity: 0 the most popular."""
    kind: str
    """Its class: "short", "long", or any other name."""
    n_shared: int = 0
    """Tokens at the front of the prompt that all requests of this class and adapter share."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A load to offer: requests in the order in which they are due."""

    name: str
    arrivals: tuple[Arrival, ...]

    @property
    def seconds(self) -> float:
        """When the last request is due; 0 without requests."""
        return self.arrivals[-1].at if self.arrivals else 0.0

    @property
    def n_adapters(self) -> int:
        """Models that a target needs: one more than the highest index."""
        return max((arrival.adapter for arrival in self.arrivals), default=-1) + 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The classes that occur, sorted."""
        return tuple(sorted({arrival.kind for arrival in self.arrivals}))

    @property
    def n_tokens(self) -> int:
        """Prompt and output tokens of all requests."""
        return sum(arrival.n_prompt + arrival.n_output for arrival in self.arrivals)

    @property
    def longest(self) -> int:
        """Most tokens that one request takes, prompt and output: the model length it needs."""
        return max((arrival.n_prompt + arrival.n_output for arrival in self.arrivals), default=0)

    @property
    def offered_tokens_per_second(self) -> float:
        """Prompt and output tokens over `seconds`; 0 where that is 0."""
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of one size. Either each `every`th request is of it, or it has a `weight`."""

    kind: str
    prompt: Length
    output: Length
    weight: float = 1.0
    """Its share of the requests that no `every` takes, against the other weights."""
    every: int | None = None
    """10: the tenth, the twentieth and so on, counted over all requests."""
    shared_prefix: int = 0
    """Tokens at the front that all its requests of one adapter share, as a system prompt is."""


@dataclass(frozen=True, slots=True)
class AdapterMix:
    """How requests spread over adapters: Zipf, adapter k with the weight 1 / (k + 1) ** zipf."""

    number: int = 1
    zipf: float = 0.0
    """0: all the same; about 1: as tenants usually are."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Each adapter's share of the requests; they sum to 1."""
        weights = np.arange(1, self.number + 1, dtype=np.float64) ** -self.zipf
        return tuple((weights / weights.sum()).tolist())


@dataclass(frozen=True, slots=True)
class ShapeSpec:
    """What a shape is drawn from. It ends after `requests`, after `seconds`, or the earlier."""

    name: str
    process: Process
    classes: tuple[RequestClass, ...]
    adapters: AdapterMix = AdapterMix()
    requests: int | None = None
    seconds: float | None = None

    @property
    def expected_requests(self) -> float:
        """How many requests a shape of it has, as far as its end is a time: about."""
        of_time = math.inf if self.seconds is None else self.process.rate * self.seconds
        return min(math.inf if self.requests is None else self.requests, of_time)

    def with_rate(self, rate: float) -> ShapeSpec:
        """The same at another mean rate, in requests per second."""
        return replace(self, process=self.process.with_rate(rate))

    def draw(self, seed: int) -> Shape:
        """The requests, the same for the same seed.

        Times, classes, lengths and adapters come from streams of their own, so a spec that differs
        in one of them alone asks for the same requests otherwise.
        """
        times, kinds, lengths, adapters = np.random.default_rng(seed).spawn(4)
        due = self._times(times)
        classes = _draw_classes(self.classes, len(due), kinds)
        chosen = adapters.choice(self.adapters.number, size=len(due), p=self.adapters.shares)
        return Shape(
            self.name,
            tuple(
                Arrival(
                    at,
                    request.prompt.draw(lengths),
                    request.output.draw(lengths),
                    adapter,
                    request.kind,
                    request.shared_prefix,
                )
                for at, request, adapter in zip(due, classes, chosen.tolist(), strict=True)
            ),
        )

    def _times(self, draw: np.random.Generator) -> list[float]:
        due: Iterator[float] = self.process.times(draw)
        if self.seconds is not None:
            end = self.seconds
            due = takewhile(lambda at: at < end, due)
        return list(islice(due, self.requests))


def _draw_classes(
    classes: Sequence[RequestClass], n: int, draw: np.random.Generator
) -> list[RequestClass]:
    """Each request's class; where several `every` meet, the one that is written first."""
    weighted = [request for request in classes if request.every is None]
    weights = np.array([request.weight for request in weighted])
    picked = draw.choice(len(weighted), size=n, p=weights / weights.sum())
    drawn = [weighted[index] for index in picked.tolist()]
    for request in reversed([request for request in classes if request.every is not None]):
        for place in range((request.every or 1) - 1, n, request.every or 1):
            drawn[place] = request
    return drawn
