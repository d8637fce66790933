"""What was made faster: figures that a result, or two results, have from before a change. Pure.

Either a group or name with the word `before` beside the same without it (or with `after`), or a
file `SCENARIO_before.json` beside `SCENARIO.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bench.report.words import number, title_of, unit_of
from bench.result import Figure, Result

_BEFORE = re.compile(r"\bbefore\b")
_FILE = "_before"

Pair = tuple[Figure, Figure]


def is_before(stem: str) -> bool:
    """Whether a file is of before a change."""
    return stem.endswith(_FILE)


def faster(results: Mapping[str, Result]) -> dict[str, str]:
    """By the file of after: the figure that gained most, and how much."""
    found = {}
    for stem, result in results.items():
        if is_before(stem):
            stem = stem.removesuffix(_FILE)
            pairs = list(_of_files(result, results[stem])) if stem in results else []
        else:
            pairs = list(_of_one(result))
        best = max(pairs, key=_gain, default=None)
        if best and _gain(best) > 1:
            found[stem] = _told(best)
    return found


def _of_files(before: Result, after: Result) -> Iterator[Pair]:
    by_key = {_key(figure): figure for figure in after.figures}
    for figure in before.figures:
        if _key(figure) in by_key:
            yield figure, by_key[_key(figure)]


def _of_one(result: Result) -> Iterator[Pair]:
    by_key = {_key(figure): figure for figure in result.figures}
    for figure in result.figures:
        for group, name in _others(figure):
            if (group, name, figure.unit) in by_key:
                yield figure, by_key[group, name, figure.unit]


def _others(figure: Figure) -> Iterator[tuple[str, str]]:
    """Group and name of what may stand beside a figure of before."""
    if _BEFORE.search(figure.group):
        yield from ((text, figure.name) for text in _without(figure.group))
    elif _BEFORE.search(figure.name):
        yield from ((figure.group, text) for text in _without(figure.name))


def _without(text: str) -> tuple[str, str]:
    return _BEFORE.sub("", text).strip(" ,:"), _BEFORE.sub("after", text)


def _key(figure: Figure) -> tuple[str, str, str]:
    return figure.group, figure.name, figure.unit


def _gain(pair: Pair) -> float:
    """Times better than before; 0 where that has no meaning."""
    before, after = pair
    better, worse = (before, after) if before.better == "higher" else (after, before)
    if before.better is None or not (before.median > 0 and after.median > 0):
        return 0.0
    return worse.median / better.median


def _told(pair: Pair) -> str:
    before, after = pair
    where = f" ({title_of(after.group)})" if after.group else ""
    values = f"{number(before.median)} -> {number(after.median)} {unit_of(after.unit)}".strip()
    return f"{title_of(after.name)}{where} {values}"
