"""How a cost grows with the number of adapters: the exponent of a power law. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PowerFit:
    """`cost ~ n ** exponent`, by least squares on logarithms, with a 95 % interval."""

    exponent: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def is_at_most_linear(self) -> bool:
        """Whether the data does not show more than proportional growth, to two decimals."""
        return round(self.low, 2) <= 1.0

    def to_json(self) -> dict[str, Any]:
        """For a result's raw data."""
        return {"exponent": self.exponent, "low": self.low, "high": self.high}


def fit_power(points: Sequence[tuple[float, float]]) -> PowerFit | None:
    """The fit of (n, cost) points; None where fewer than three are positive or all n are one.

    A cost with a fixed part grows slower at first: the exponent over all sizes is then below that
    between the last two, so look at `local_exponent` too.
    """
    import numpy as np
    from scipy import stats

    logs = [(math.log(n), math.log(cost)) for n, cost in points if n > 0 and cost > 0]
    if len(logs) < 3 or len({x for x, _ in logs}) < 2:
        return None
    x, y = np.array(logs).T
    found = stats.linregress(x, y)
    slope, error = float(found.slope), float(found.stderr)
    # Undefined where all costs are exactly equal.
    width = 0.0 if math.isnan(error) else float(stats.t.ppf(0.975, len(logs) - 2)) * error
    return PowerFit(slope, slope - width, slope + width)


def local_exponent(smaller: tuple[float, float], larger: tuple[float, float]) -> float:
    """The exponent between two (n, cost) points; NaN where a cost is not positive."""
    (n1, cost1), (n2, cost2) = smaller, larger
    if min(cost1, cost2) <= 0 or n1 == n2:
        return math.nan
    return math.log(cost2 / cost1) / math.log(n2 / n1)
