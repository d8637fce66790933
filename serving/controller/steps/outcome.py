"""How a step ends: three types, so that the loop never reads a message to decide what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The step applied its result, or its lease was stale and the result is dropped."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The world is not ready: run the step again.

    `after_seconds` None: the loop backs off by the number of tries. `code` is a stable slug that
    people see in the version's `error` until the step gets further.
    """

    code: str
    after_seconds: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Trying again cannot help before somebody acts; recorded, and looked at again rarely."""

    code: str
    detail: dict[str, Any] = field(default_factory=dict)


Outcome = Done | Retry | Terminal
