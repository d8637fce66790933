"""Which pictures a result makes, as plain values that page.js hands to plotly. Pure.

Figures of one unit share a picture, a series per name. `growth`: over the number that begins the
groups' names. `ranges`: a line per group. `trade`: one figure against another, a mark per group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bench.report.catalogue import Trade
from bench.report.words import heading, spread, title_of, unit_of
from bench.result import Figure

_NUMBER = re.compile(r"([\d,]+(?:\.\d+)?)\s+(\w.*)")
_FEWEST = 3
"""Marks below which a picture says less than a table; arbitrary."""
_MOST_SERIES = 6
_MOST_PLOTS = 6
_LOG_FROM, _LOG_TRADE_FROM = 30.0, 8.0
"""Largest over smallest value from which an axis is logarithmic; arbitrary."""
_MOST_ROWS = 16
"""Groups above which a trade says more than a line for each; arbitrary."""
_HINTS = {"lower": "lower is better", "higher": "higher is better", None: ""}


def plots_of(figures: Sequence[Figure], trades: Sequence[Trade] = ()) -> list[dict[str, Any]]:
    """At most six, those that the catalogue asks for first."""
    found = [plot for trade in trades if (plot := _trade(figures, trade))]
    alike: dict[tuple[str, str | None], list[Figure]] = {}
    for figure in figures:
        if figure.defined:
            alike.setdefault((figure.unit, figure.better), []).append(figure)
    is_crowded = bool(found) and len({figure.group for figure in figures}) > _MOST_ROWS
    for part in alike.values():
        if len(part) >= _FEWEST and not is_crowded:
            found += _pictures(part)
    return found[:_MOST_PLOTS]


def _pictures(figures: Sequence[Figure]) -> Iterable[dict[str, Any]]:
    """All of one unit; several where names are too many for one."""
    groups = list(dict.fromkeys(figure.group for figure in figures))
    if len(groups) == 1:
        yield _ranges([_series("", figures, [figure.name for figure in figures])], figures)
        return
    names = list(dict.fromkeys(figure.name for figure in figures))
    for begin in range(0, len(names), _MOST_SERIES):
        some = names[begin : begin + _MOST_SERIES]
        part = [figure for figure in figures if figure.name in some]
        lines = _lines(part)
        if not lines:
            yield _ranges([_series(name, *_labelled(part, name)) for name in some], part)
            continue
        beside = [figure for figure in part if counted(figure.group) is None]
        # All in one picture, or one for each suffix where that would be crowded.
        suffixes = list(dict.fromkeys(suffix for _, suffix in lines))
        apart = suffixes if len(lines) > _MOST_SERIES else [None]
        for one in apart:
            own = {key: found for key, found in lines.items() if one in (None, key[1])}
            yield _growth(own, beside, suffix=one)


def counted(text: str) -> tuple[float, str, str] | None:
    """`1,000 adapters, Zipf` is (1000, "adapters", "Zipf"); None where it begins otherwise."""
    found = _NUMBER.fullmatch(text.strip())
    if not found:
        return None
    noun, _, suffix = found[2].partition(", ")
    # "1 adapter" and "4 adapters" are points of one line.
    first, space, rest = noun.partition(" ")
    return float(found[1].replace(",", "")), first.rstrip("s") + "s" + space + rest, suffix


def _lines(figures: Sequence[Figure]) -> dict[tuple[str, str], list[Figure]]:
    """Figures by (name, suffix), each a line over one noun; none where that is no picture."""
    lines: dict[tuple[str, str], list[Figure]] = {}
    nouns, numbers, n_beside = set(), set(), 0
    for figure in figures:
        found = counted(figure.group)
        if found is None:
            n_beside += 1
            continue
        number, noun, suffix = found
        nouns.add(noun)
        numbers.add(number)
        lines.setdefault((figure.name, suffix), []).append(figure)
    n_names = len({name for name, _ in lines})
    is_picture = len(nouns) == 1 and len(numbers) >= _FEWEST and n_beside <= 2 * n_names
    return lines if is_picture else {}


def _growth(
    lines: dict[tuple[str, str], list[Figure]], beside: Sequence[Figure], *, suffix: str | None
) -> dict[str, Any]:
    """`suffix`: the one that all lines have, which the axis then names."""
    figures = [figure for line in lines.values() for figure in line]
    places = {figure.group: counted(figure.group) or (0.0, "", "") for figure in figures}
    names = {name for name, _ in lines}
    series = []
    for (name, own), line in lines.items():
        ordered = sorted(line, key=lambda figure: places[figure.group][0])
        marks = [{"x": places[f.group][0], **_mark(f, f.group)} for f in ordered]
        words = [title_of(name) if len(names) > 1 or not own else "", own if suffix is None else ""]
        title = ", ".join(filter(None, words)) or title_of(name)
        series.append({"name": title, "figure": name, "marks": marks})
    levels = [
        {"figure": f.name, "label": title_of(f.group), "value": f.median, "shown": spread(f)}
        for f in beside
        if f.name in names
    ]
    noun = next(iter(places.values()))[1]
    return {
        "kind": "growth",
        **_titles([*figures, *beside]),
        "along": ", ".join(filter(None, (noun, suffix))),
        "log_x": is_wide([number for number, _, _ in places.values()]),
        "log_y": is_wide([*_values(figures), *(level["value"] for level in levels)]),
        "series": series,
        "levels": levels,
    }


def _ranges(series: list[dict[str, Any]], figures: Sequence[Figure]) -> dict[str, Any]:
    labels = list(dict.fromkeys(mark["label"] for each in series for mark in each["marks"]))
    return {
        "kind": "ranges",
        **_titles(figures),
        "labels": labels,
        "log_x": is_wide(_values(figures)),
        "series": series,
    }


def _titles(figures: Sequence[Figure]) -> dict[str, str]:
    names = list(dict.fromkeys(figure.name for figure in figures))
    first = figures[0]
    title = heading(names[0], first.unit) if len(names) == 1 else unit_of(first.unit) or "counts"
    return {"title": title, "hint": _HINTS[first.better]}


def _labelled(figures: Sequence[Figure], name: str) -> tuple[list[Figure], list[str]]:
    own = [figure for figure in figures if figure.name == name]
    return own, [figure.group for figure in own]


def _series(name: str, figures: Sequence[Figure], labels: Sequence[str]) -> dict[str, Any]:
    marks = [
        _mark(figure, title_of(label) or "all")
        for figure, label in zip(figures, labels, strict=True)
    ]
    return {"name": title_of(name), "marks": marks}


def _trade(figures: Sequence[Figure], trade: Trade) -> dict[str, Any] | None:
    xs = {f.group: f for f in figures if f.name == trade.x and f.defined}
    ys = {f.group: f for f in figures if f.name == trade.y and f.defined}
    groups = [group for group in xs if group in ys]
    if len(groups) < _FEWEST:
        return None
    first_x, first_y = xs[groups[0]], ys[groups[0]]
    costs = {group: (_cost(xs[group]), _cost(ys[group])) for group in groups}
    return {
        "kind": "trade",
        "title": f"{title_of(trade.y)} against {title_of(trade.x)}",
        "hint": "the line joins what nothing else is better than in both",
        "x_title": _axis(first_x),
        "y_title": _axis(first_y),
        "log_x": is_wide([xs[group].median for group in groups], ratio=_LOG_TRADE_FROM),
        "log_y": is_wide([ys[group].median for group in groups]),
        "marks": [
            {
                "label": title_of(group),
                "x": _interval(xs[group]),
                "y": _interval(ys[group]),
                "is_best": not is_dominated(costs[group], costs.values()),
            }
            for group in groups
        ],
    }


def _cost(figure: Figure) -> float:
    return -figure.median if figure.better == "higher" else figure.median


def is_dominated(one: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
    """Whether another costs no more in both, and less in one."""
    return any(all(a <= b for a, b in zip(o, one, strict=True)) and o != one for o in others)


def _axis(figure: Figure) -> str:
    return ": ".join(filter(None, (heading(figure.name, figure.unit), _HINTS[figure.better])))


def _mark(figure: Figure, label: str) -> dict[str, Any]:
    shown = spread(figure)
    runs = list(figure.defined)
    return {"label": label.replace("`", ""), "shown": shown, "runs": runs, **_interval(figure)}


def _interval(figure: Figure) -> dict[str, float]:
    return {"median": figure.median, "low": figure.low, "high": figure.high}


def _values(figures: Sequence[Figure]) -> list[float]:
    return [value for figure in figures for value in figure.defined]


def is_wide(values: Sequence[float], *, ratio: float = _LOG_FROM) -> bool:
    """Whether small and large ones could not be told apart on a linear axis."""
    return min(values) > 0 and max(values) / min(values) >= ratio
