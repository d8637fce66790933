"""Where figures of hand-written tables come from: each is a value of a linked result file. Pure.

A figure traces back if some number of the files that its section links, or a count, extreme, median
or ratio of two of its lists, shows the same digits; as it is, in percent, per mille, or in
milliseconds. Prose is not looked at: that a sentence says what a table shows is for its reader.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_GENERATED = re.compile(r"<!-- generated: [^>]+ -->.*?<!-- end -->", re.DOTALL)
_RESULT = re.compile(r"bench/results/([a-z0-9_]+)\.json")
_HEADING = re.compile(r"^## ", re.MULTILINE)
_FIGURE = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")
_SCALES = (1.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class Stray:
    """A figure of a table that no linked file has."""

    section: str
    figure: str
    line: str


def stray_figures(text: str, documents: Mapping[str, Any]) -> list[Stray]:
    """All of a page; `documents` has the result files' content by name without ending."""
    found = []
    for section in _HEADING.split(_GENERATED.sub("", text))[1:]:
        title = section.partition("\n")[0]
        known: list[float] = []
        for stem in dict.fromkeys(_RESULT.findall(section)):
            if stem in documents:
                known += list(_numbers(documents[stem]))
        for line in section.splitlines():
            if line.startswith("|"):
                found += [
                    Stray(title, figure, line)
                    for figure in _FIGURE.findall(line)
                    if not is_shown(figure, known)
                ]
    return found


def is_shown(figure: str, known: list[float]) -> bool:
    """Whether one of the known numbers is rounded to these digits."""
    plain = figure.replace(",", "")
    mantissa, _, exponent = plain.partition("e")
    digits = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - digits)
    value = float(plain)
    # Half a unit, and a hair for what is halfway.
    return any(
        math.isclose(number * scale, value, abs_tol=0.5001 * unit, rel_tol=1e-9)
        for number in known
        for scale in _SCALES
    )


def _numbers(value: Any) -> Iterator[float]:
    """Every number in a document, also those that name its parts, and what its lists add up to."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, str):
        yield from (float(each.replace(",", "")) for each in _FIGURE.findall(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(str(key))
            yield from _numbers(inner)
        if "n" in value and "agreed" in value:
            yield float(value["n"] - value["agreed"])
            yield value["agreed"] / value["n"]
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
        flat = [float(each) for each in value if type(each) in (int, float)]
        if flat:
            yield from (min(flat), max(flat), statistics.median(flat), sum(flat))
