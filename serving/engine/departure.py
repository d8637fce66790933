"""How an engine leaves: serving -> leaving -> draining, and never back. Knows no requests.

While it is leaving it is not ready any more and still lets everybody in: load balancers notice
after a while, and what they send until then must not be lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum


class Stage(StrEnum):
    """They complete the sentence "this engine is ..."."""

    SERVING = "serving"
    LEAVING = "leaving"
    """Not ready, and still letting requests in."""
    DRAINING = "draining"
    """New requests are turned away; those in flight go on."""


class Departure:
    """Where one engine is on its way out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._admits_until = math.inf

    @property
    def stage(self) -> Stage:
        """Where it is now."""
        if math.isinf(self._admits_until):
            return Stage.SERVING
        return Stage.LEAVING if self._clock() < self._admits_until else Stage.DRAINING

    @property
    def is_draining(self) -> bool:
        """Whether new requests are turned away."""
        # Asked before every request: the clock is not read while nothing ends the engine's time.
        admits_until = self._admits_until
        return admits_until != math.inf and self._clock() >= admits_until

    @property
    def admits_for_seconds(self) -> float | None:
        """How long new requests are still let in; None while nothing ends that."""
        if math.isinf(self._admits_until):
            return None
        return max(0.0, self._admits_until - self._clock())

    def leave(self, seconds: float) -> None:
        """Let new requests in for `seconds` more; asked again, it never gets later."""
        self._admits_until = min(self._admits_until, self._clock() + seconds)
