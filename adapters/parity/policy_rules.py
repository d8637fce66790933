"""What a policy's value may be: one small rule per kind of field. Pure.

The neighbour `policy` names the fields; a rule knows nothing of them but the name in its error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from adapters.errors import PolicyInvalid

_MAX_SEGMENTS = 1000
_MAX_SEGMENT_NAME = 255
_MAX_TEXT = 500


class Rule(Protocol):
    """Reads one field's JSON value."""

    def read(self, field: str, value: object) -> Any:
        """The value in the field's type.

        Raises:
            PolicyInvalid: not a value of this kind.
        """
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`, both included unless `is_low_open`."""

    low: float
    high: float
    is_low_open: bool = False

    def read(self, field: str, value: object) -> float:
        """See `Rule.read`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PolicyInvalid(field=field, problem=f"{_shown(value)} is no number", fix=self.fix)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        is_under = number <= self.low if self.is_low_open else number < self.low
        if not math.isfinite(number) or is_under or number > self.high:
            problem = f"{_shown(value)} is out of range"
            raise PolicyInvalid(field=field, problem=problem, fix=self.fix)
        return number

    @property
    def fix(self) -> str:
        """What would be right."""
        words = "a number above" if self.is_low_open else "a number from"
        joint = "and up to" if self.is_low_open else "to"
        return f"Give {words} {self.low:g} {joint} {self.high:g}."


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def read(self, field: str, value: object) -> int:
        """See `Rule.read`."""
        fix = f"Give a whole number from {self.low} to {self.high}."
        if isinstance(value, bool) or not isinstance(value, int):
            problem = f"{_shown(value)} is no whole number"
            raise PolicyInvalid(field=field, problem=problem, fix=fix)
        if not self.low <= value <= self.high:
            problem = f"{_shown(value)} is out of range"
            raise PolicyInvalid(field=field, problem=problem, fix=fix)
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false, and nothing that merely looks like it."""

    def read(self, field: str, value: object) -> bool:
        """See `Rule.read`."""
        if not isinstance(value, bool):
            problem = f"{_shown(value)} is neither true nor false"
            raise PolicyInvalid(field=field, problem=problem, fix="Give true or false.")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at most 500 printable characters; empty: unset."""

    def read(self, field: str, value: object) -> str:
        """See `Rule.read`."""
        fix = "Give a text of at most 500 printable characters."
        if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
            raise PolicyInvalid(field=field, problem=f"{_shown(value)} is no such text", fix=fix)
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of an enumeration."""

    kind: type[StrEnum]

    def read(self, field: str, value: object) -> StrEnum:
        """See `Rule.read`."""
        words = [item.value for item in self.kind]
        if not isinstance(value, str) or value not in words:
            fix = f"Give {', '.join(words[:-1])} or {words[-1]}."
            raise PolicyInvalid(field=field, problem=f"{_shown(value)} is no choice here", fix=fix)
        return self.kind(value)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Segment name -> least pass rate, 0 to 1."""

    def read(self, field: str, value: object) -> dict[str, float]:
        """See `Rule.read`; sorted by segment."""
        fix = "Give a mapping of segment names to least pass rates, as in {refund_flow: 0.85}."
        if not isinstance(value, Mapping):
            problem = f"{_shown(value)} is no mapping"
            raise PolicyInvalid(field=field, problem=problem, fix=fix)
        if len(value) > _MAX_SEGMENTS:
            problem = f"{len(value)} segments are more than {_MAX_SEGMENTS}"
            raise PolicyInvalid(field=field, problem=problem, fix="Name fewer segments.")
        for name in value:
            if not isinstance(name, str) or not 0 < len(name) <= _MAX_SEGMENT_NAME:
                problem = f"{_shown(name)} is no segment's name"
                raise PolicyInvalid(field=field, problem=problem, fix=fix)
        rate = Number(0.0, 1.0)
        return {name: rate.read(f"{field}.{name}", value[name]) for name in sorted(value)}


def _shown(value: object) -> str:
    return repr(value)[:80]
