"""Reads values out of a report's JSON: what is absent, of another type or not finite is None.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def mapping(value: Any, *path: str) -> Json:
    """The object at a path; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, Mapping) else {}


def at(value: Any, *path: str) -> Any:
    """Whatever is at a path of keys, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def rows(value: Any, *path: str) -> list[Json]:
    """The objects of a list."""
    return [item for item in items(value, *path) if isinstance(item, Mapping)]


def items(value: Any, *path: str) -> list[Any]:
    """The values of a list."""
    found = at(value, *path)
    return list(found) if isinstance(found, list | tuple) else []


def number(value: Any, *path: str) -> float | None:
    """A finite number; a truth value is none."""
    found = at(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found) if math.isfinite(found) else None
    except OverflowError:
        return None


def flag(value: Any, *path: str) -> bool | None:
    """A truth value."""
    found = at(value, *path)
    return found if isinstance(found, bool) else None


def text(value: Any, *path: str) -> str | None:
    """A text; numbers are shown as such, an empty text is None."""
    found = at(value, *path)
    if isinstance(found, str):
        return found or None
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    return None


def interval(value: Any, *path: str) -> tuple[float, float] | None:
    """A pair of bounds, as `[low, high]` or `{"low", "high"}`; None unless both are numbers."""
    found = at(value, *path)
    if isinstance(found, Mapping):
        found = [found.get("low"), found.get("high")]
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    low, high = number(found[0]), number(found[1])
    return None if low is None or high is None else (low, high)
