"""A forest plot: one difference with its interval a row, around zero, with the margin drawn. Pure.

All rows of a table share one scale. It fits what the gate judges; what is wider ends in an arrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, element, join

WIDTH, HEIGHT, AXIS_HEIGHT = 210.0, 28.0, 22.0
_EDGE = 10.0
_MIDDLE = HEIGHT / 2


@dataclass(frozen=True, slots=True)
class Difference:
    """after minus before as shares of one; None: undefined."""

    name: str
    delta: float | None
    interval: tuple[float, float] | None
    is_gated: bool
    is_total: bool = False
    is_regression: bool = False
    bound: float | None = None
    """Where no pair differs there is no interval, but an exact bound on how many could."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From shares of one to the plot's own units."""

    low: float
    high: float
    margin: float

    def x(self, value: float) -> float:
        """Where a value is, held inside the plot."""
        inside = min(max(value, self.low), self.high)
        return _EDGE + (inside - self.low) / (self.high - self.low) * (WIDTH - 2 * _EDGE)


def choose_scale(differences: Iterable[Difference], *, margin: float) -> Scale:
    """A scale that holds zero, the margin, and every difference that is judged."""
    judged = [item for item in differences if item.is_gated or item.is_total]
    ends = [-2 * margin, 2 * margin]
    for item in judged:
        ends += [] if item.delta is None else [item.delta]
        ends += item.interval or ()
    low, high = max(-1.0, min(ends)), min(1.0, max(ends))
    if high - low < 1e-6:
        low, high = -0.01, 0.01
    pad = (high - low) * 0.06
    return Scale(low - pad, high + pad, margin)


def draw_row(item: Difference, scale: Scale) -> Html:
    """One row's bar and point; a word in place of both where the difference is undefined."""
    if item.delta is None:
        return notation.undefined()
    parts: list[Html] = [_ground(scale, HEIGHT)]
    if item.interval is not None:
        parts += _bar(item.interval, scale)
    elif item.bound is not None:
        parts.append(_bound(item.bound, scale))
    parts.append(_point(item, item.delta, scale))
    return _svg(_describe(item), join(parts), HEIGHT)


def draw_axis(scale: Scale) -> Html:
    """The scale under the rows: percentage points, with zero and the margin."""
    parts: list[Html] = []
    for value in _ticks(scale):
        x = scale.x(value)
        label = notation.points(value, 0 if _step(scale) >= 0.01 else 1)
        parts.append(element("line", x1=x, x2=x, y1=0.0, y2=4.0, class_="axis"))
        parts.append(element("text", label, x=x, y=16.0, text_anchor="middle"))
    parts.append(element("line", x1=_EDGE, x2=WIDTH - _EDGE, y1=0.0, y2=0.0, class_="axis"))
    return _svg("Scale in percentage points", join(parts), AXIS_HEIGHT)


def _svg(title: str, inside: Html, height: float) -> Html:
    return element(
        "svg",
        element("title", title),
        inside,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        width=WIDTH,
        height=height,
        class_="forest",
        role="img",
    )


def _ground(scale: Scale, height: float) -> Html:
    beyond, zero = scale.x(-scale.margin), scale.x(0.0)
    return join(
        [
            element("rect", x=0.0, y=0.0, width=beyond, height=height, class_="beyond"),
            element("line", x1=beyond, x2=beyond, y1=0.0, y2=height, class_="margin"),
            element("line", x1=zero, x2=zero, y1=0.0, y2=height, class_="zero"),
        ]
    )


def _bar(interval: tuple[float, float], scale: Scale) -> list[Html]:
    low, high = interval
    left, right = scale.x(low), scale.x(high)
    return [
        element("line", x1=left, x2=right, y1=_MIDDLE, y2=_MIDDLE, class_="interval"),
        _end(left, is_cut=low < scale.low, outwards=-1),
        _end(right, is_cut=high > scale.high, outwards=1),
    ]


def _bound(bound: float, scale: Scale) -> Html:
    left, right = scale.x(-bound), scale.x(bound)
    return element("line", x1=left, x2=right, y1=_MIDDLE, y2=_MIDDLE, class_="interval bound")


def _end(x: float, *, is_cut: bool, outwards: int) -> Html:
    if not is_cut:
        return element("line", x1=x, x2=x, y1=_MIDDLE - 4, y2=_MIDDLE + 4, class_="interval")
    tip = x + outwards * 7
    return element(
        "path", d=f"M{x:.1f} {_MIDDLE - 4:g}L{tip:.1f} {_MIDDLE:g}L{x:.1f} {_MIDDLE + 4:g}Z",
        class_="arrow",
    )  # fmt: skip


def _point(item: Difference, delta: float, scale: Scale) -> Html:
    """A diamond for the total, a triangle for a regression, a disc; hollow where not gated."""
    x, y = scale.x(delta), _MIDDLE
    kind = "point" if item.is_gated or item.is_total else "point hollow"
    if item.is_regression:
        d = f"M{x - 6:.1f} {y - 5:g}L{x + 6:.1f} {y - 5:g}L{x:.1f} {y + 6:g}Z"
        return element("path", d=d, class_=f"{kind} worse")
    if item.is_total:
        d = f"M{x - 7:.1f} {y:g}L{x:.1f} {y - 6:g}L{x + 7:.1f} {y:g}L{x:.1f} {y + 6:g}Z"
        return element("path", d=d, class_=kind)
    return element("circle", cx=x, cy=y, r=4.5, class_=kind)


def _describe(item: Difference) -> str:
    text = f"{item.name}: {notation.points(item.delta)} points"
    if item.interval is None:
        return f"{text}, no case changed" if item.bound is not None else f"{text}, no interval"
    low, high = (notation.points(bound) for bound in item.interval)
    return f"{text}, interval {low} to {high}"


def _step(scale: Scale) -> float:
    """A round distance that gives three to six ticks."""
    rough = (scale.high - scale.low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if rough <= power * factor)


def _ticks(scale: Scale) -> list[float]:
    step = _step(scale)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [index * step for index in range(first, last + 1)]
