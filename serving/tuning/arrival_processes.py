"""When requests are due: arrival processes, each drawn from a given generator. Pure.

All but `Uniform` are Poisson processes, with a constant or a varying rate; the varying ones are
drawn by thinning (Lewis and Shedler 1979): candidates at the highest rate, each kept with the
probability rate(t) / highest rate. `rate` is always the mean over a whole period, in requests per
second, so that processes of one rate offer the same load.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np


class Process(Protocol):
    """Times of arrival without an end, ascending, in seconds after the start."""

    @property
    def rate(self) -> float:
        """Mean requests per second."""

    def with_rate(self, rate: float) -> Process:
        """The same form at another mean rate."""

    def times(self, draw: np.random.Generator) -> Iterator[float]:
        """The arrivals; the caller stops."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests that know nothing of each other: exponential gaps."""

    rate: float

    def with_rate(self, rate: float) -> Poisson:
        """See `Process`."""
        return replace(self, rate=rate)

    def times(self, draw: np.random.Generator) -> Iterator[float]:
        """See `Process`."""
        at = 0.0
        while True:
            at += draw.exponential() / self.rate
            yield at


@dataclass(frozen=True, slots=True)
class Uniform:
    """One request every 1 / rate seconds, the first at 0; the same for every seed."""

    rate: float

    def with_rate(self, rate: float) -> Uniform:
        """See `Process`."""
        return replace(self, rate=rate)

    def times(self, draw: np.random.Generator) -> Iterator[float]:
        """See `Process`."""
        return (number / self.rate for number in count())


@dataclass(frozen=True, slots=True)
class Bursts:
    """Nothing for `off_seconds`, then Poisson arrivals for `on_seconds`, and again; on first."""

    rate: float
    on_seconds: float = 5.0
    off_seconds: float = 15.0

    @property
    def on_rate(self) -> float:
        """Requests per second within a burst."""
        return self.rate * (self.on_seconds + self.off_seconds) / self.on_seconds

    def with_rate(self, rate: float) -> Bursts:
        """See `Process`."""
        return replace(self, rate=rate)

    def times(self, draw: np.random.Generator) -> Iterator[float]:
        """See `Process`. The arrivals of a Poisson process that runs only while it is on."""
        for busy in Poisson(self.on_rate).times(draw):
            yield busy + self.off_seconds * (busy // self.on_seconds)


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day: rate * (1 + swing * sin(2 pi t / period)), from the mean upwards."""

    rate: float
    period_seconds: float = 60.0
    swing: float = 0.8
    """0: constant; 1: down to nothing at the lowest."""

    def rate_at(self, at: float) -> float:
        """Requests per second at that time."""
        return self.rate * (1 + self.swing * math.sin(2 * math.pi * at / self.period_seconds))

    def with_rate(self, rate: float) -> Diurnal:
        """See `Process`."""
        return replace(self, rate=rate)

    def times(self, draw: np.random.Generator) -> Iterator[float]:
        """See `Process`."""
        highest = self.rate * (1 + self.swing)
        for at in Poisson(highest).times(draw):
            if draw.random() * highest < self.rate_at(at):
                yield at
