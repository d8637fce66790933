"""The distributions of |delta logprob| as cumulative curves on a logarithmic axis. Pure.

A curve tells which share of tokens differs by at most so many nats. The noise floor is a broad
band: a candidate that is as good as the base model's own copy runs inside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.parity.report_page.markup import Html, element, join

_SMALLEST_DECADE, _LARGEST_DECADE = -8, 3
_MARKED = (0.5, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """Quantiles in nats, ascending, at `probabilities`; `kind` is its style and its mark."""

    kind: str
    """"floor", "candidate" or "effect"."""
    label: str
    probabilities: Sequence[float]
    quantiles: Sequence[float]

    def at(self, probability: float) -> float | None:
        """The quantile at a probability that was computed; None for another."""
        pairs = zip(self.probabilities, self.quantiles, strict=True)
        return next((q for p, q in pairs if abs(p - probability) < 1e-9), None)


@dataclass(frozen=True, slots=True)
class Rule:
    """A vertical line at so many nats."""

    nats: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Size and range: decades of nats from left to right."""

    width: float
    height: float
    first_decade: int
    last_decade: int
    left: float = 52.0
    right: float = 14.0
    top: float = 46.0
    bottom: float = 46.0

    def x(self, nats: float) -> float:
        """Place of a difference; nothing, and what is too small to draw, at the left edge."""
        decades = math.log10(nats) if nats > 0 else self.first_decade
        inside = min(max(decades, self.first_decade), self.last_decade)
        share = (inside - self.first_decade) / (self.last_decade - self.first_decade)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        """Place of a share of tokens."""
        return self.top + (1 - share) * (self.height - self.top - self.bottom)


def draw_curves(
    curves: Sequence[Curve], rules: Sequence[Rule], *, width: float, height: float, title: str
) -> Html:
    """The plot as an SVG of this size; `title` is what it says to those who do not see it."""
    plot = _fit(curves, rules, width=width, height=height)
    parts = [_grid(plot), *_rules(plot, rules)]
    parts += [_line(plot, curve) for curve in curves]
    return element(
        "svg",
        element("title", title),
        join(parts),
        viewBox=f"0 0 {width:g} {height:g}",
        class_="curves",
        role="img",
    )


def draw_swatch(kind: str) -> Html:
    """A curve's style for the legend."""
    line = element("path", d="M2 8L42 8", class_=f"curve {kind}")
    return element(
        "svg", line, _mark(kind, 22.0, 8.0), viewBox="0 0 44 16", width=44, height=16,
        aria_hidden="true", class_="swatch",
    )  # fmt: skip


def _fit(curves: Sequence[Curve], rules: Sequence[Rule], *, width: float, height: float) -> Plot:
    values = [q for curve in curves for q in curve.quantiles] + [rule.nats for rule in rules]
    decades = [math.log10(value) for value in values if value > 0] or [-4.0, 0.0]
    first = max(_SMALLEST_DECADE, math.floor(min(decades)))
    last = min(_LARGEST_DECADE, max(math.ceil(max(decades)), first + 2))
    return Plot(width, height, min(first, last - 2), last)


def _grid(plot: Plot) -> Html:
    parts: list[Html] = []
    bottom, right = plot.y(0.0), plot.width - plot.right
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = plot.y(share)
        parts.append(element("line", x1=plot.left, x2=right, y1=y, y2=y, class_="grid"))
        label = f"{share:.0%}"
        parts.append(element("text", label, x=plot.left - 8, y=y + 4, text_anchor="end"))
    n_decades = plot.last_decade - plot.first_decade
    every = math.ceil(n_decades * 52.0 / (plot.width - plot.left - plot.right))
    for decade in range(plot.first_decade, plot.last_decade + 1):
        x = plot.x(10.0**decade)
        parts.append(element("line", x1=x, x2=x, y1=plot.top, y2=bottom, class_="grid"))
        if (decade - plot.first_decade) % every == 0:
            parts.append(_decade_label(plot, decade, x, bottom))
    middle = (plot.left + right) / 2
    axis = "|Δ logprob| of a token, in nats"
    parts.append(
        element("text", axis, x=middle, y=plot.height - 6, text_anchor="middle", class_="title")
    )
    parts.append(element("text", "share of tokens", x=4.0, y=14.0, class_="title"))
    return join(parts)


def _decade_label(plot: Plot, decade: int, x: float, bottom: float) -> Html:
    edge = "≤ " if decade == plot.first_decade else ""
    exponent = element("tspan", str(decade).replace("-", "\u2212"), dy=-5, class_="exponent")
    return element("text", f"{edge}10", exponent, x=x, y=bottom + 18, text_anchor="middle")


def _rules(plot: Plot, rules: Sequence[Rule]) -> list[Html]:
    """Labels point away from each other: the last one's to the right, the others' to the left."""
    ordered = sorted(rules, key=lambda rule: rule.nats)
    return [_rule(plot, rule, is_last=rule is ordered[-1]) for rule in ordered]


def _rule(plot: Plot, rule: Rule, *, is_last: bool) -> Html:
    x = plot.x(rule.nats)
    line = element("line", x1=x, x2=x, y1=plot.top, y2=plot.y(0.0), class_="rule")
    label = element(
        "text",
        rule.label,
        x=x + 4 if is_last else x - 4,
        y=plot.top - 8,
        text_anchor="start" if is_last else "end",
        class_="rule-label",
    )
    return join([line, label])


def _line(plot: Plot, curve: Curve) -> Html:
    pairs = list(zip(curve.quantiles, curve.probabilities, strict=True))
    places = [(plot.x(q), plot.y(p)) for q, p in pairs]
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    marks = [
        _mark(curve.kind, plot.x(quantile), plot.y(share))
        for share in _MARKED
        if (quantile := curve.at(share)) is not None
    ]
    path = element("path", d=d, class_=f"curve {curve.kind}")
    return element("g", element("title", curve.label), path, *marks)


def _mark(kind: str, x: float, y: float) -> Html:
    if kind == "floor":
        return element("rect", x=x - 4, y=y - 4, width=8.0, height=8.0, class_=f"mark {kind}")
    if kind == "effect":
        d = f"M{x - 5:.1f} {y + 4:.1f}L{x + 5:.1f} {y + 4:.1f}L{x:.1f} {y - 5:.1f}Z"
        return element("path", d=d, class_=f"mark {kind}")
    return element("circle", cx=x, cy=y, r=3.5, class_=f"mark {kind}")
