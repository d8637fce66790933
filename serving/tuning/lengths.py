"""How many tokens a prompt or an answer has: fixed, from a range, or lognormal. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Length(Protocol):
    """A distribution of token counts, all at least 1."""

    def draw(self, draw: np.random.Generator) -> int:
        """One token count."""

    @property
    def most(self) -> int:
        """No count is above it."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    tokens: int

    def draw(self, draw: np.random.Generator) -> int:
        """See `Length`."""
        return self.tokens

    @property
    def most(self) -> int:
        """See `Length`."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class Between:
    """Each count of a range equally often, both ends included."""

    low: int
    high: int

    def draw(self, draw: np.random.Generator) -> int:
        """See `Length`."""
        return int(draw.integers(self.low, self.high, endpoint=True))

    @property
    def most(self) -> int:
        """See `Length`."""
        return self.high


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many short, few very long: exp(normal(log median, sigma)), rounded, cut to 1..most."""

    median: float
    sigma: float
    most: int

    def draw(self, draw: np.random.Generator) -> int:
        """See `Length`."""
        drawn = self.median * math.exp(self.sigma * draw.standard_normal())
        return max(1, min(self.most, round(drawn)))
