"""A gate report on a terminal: verdict, reasons, what vouches for the files, segments. No HTTP.

Its texts come from suites and models: nothing in them may act on the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import clip, visible
from adapters.parity.report_page.reading import (
    Json,
    flag,
    interval,
    items,
    mapping,
    number,
    rows,
    text,
)
from serving.cli import views

_MOST_ROWS = 60
_COLUMNS = ("segment", "cases", "before", "after", "points", "interval", "worse/better", "gate")


def print_report(report: Json) -> None:
    """Everything that decides, and where the rest is."""
    for line in report_lines(report):
        views.out.print(line, markup=False, highlight=False, soft_wrap=True)
    task = mapping(report, "task")
    for name, title in (("serving", "engine against standalone"), ("live", _live_title(task))):
        if mapping(task, name):
            views.print_table(title, _COLUMNS, segment_rows(mapping(task, name)))
    sentence = text(report, "detectable", "sentence")
    if sentence:
        views.out.print(_plain(sentence), markup=False, highlight=False, soft_wrap=True)


def report_lines(report: Json) -> Iterator[str]:
    """Verdict, reasons, first line and notes, one a line."""
    yield _plain(f"{text(report, 'version') or '?'}: {text(report, 'verdict') or 'no verdict'}")
    first = text(report, "first_line")
    for item in items(report, "reasons")[:_MOST_ROWS]:
        yield f"- {_reason(item)}"
    if first and first not in {text(item, "text") for item in rows(report, "reasons")}:
        yield _plain(first)
    for item in items(report, "notes")[:_MOST_ROWS]:
        if text(item, "text") != first:
            yield f"  note: {_reason(item)}"
    excluded = rows(report, "excluded")
    if excluded:
        yield f"{len(excluded)} cases were left out of all numbers."


def segment_rows(comparison: Json) -> list[tuple[str, ...]]:
    """The total, then the gated segments from the worst to the best, then the others."""
    segments = sorted(
        rows(comparison, "segments"),
        key=lambda row: (flag(row, "is_gated") is not True, number(row, "delta") or 0.0),
    )
    total = {**mapping(comparison, "total"), "segment": "all"}
    shown = [_row(row) for row in [total, *segments[:_MOST_ROWS]]]
    if len(segments) > _MOST_ROWS:
        shown.append((f"and {len(segments) - _MOST_ROWS} more", *[""] * (len(_COLUMNS) - 1)))
    return shown


def _row(row: Json) -> tuple[str, ...]:
    bounds = interval(row, "interval")
    between = " to ".join(notation.points(b) or "" for b in bounds) if bounds else None
    worse, better = (notation.count(number(row, key)) for key in ("n_worse", "n_better"))
    return (
        _plain(clip(text(row, "segment") or "?", 60)),
        notation.count(number(row, "n")) or notation.UNDEFINED,
        notation.percent(number(row, "before_rate")) or notation.UNDEFINED,
        notation.percent(number(row, "after_rate")) or notation.UNDEFINED,
        notation.points(number(row, "delta")) or notation.UNDEFINED,
        between or notation.UNDEFINED,
        f"{worse or '?'}/{better or '?'}",
        _judged(row),
    )


def _judged(row: Json) -> str:
    if flag(row, "is_regression"):
        return "REGRESSION"
    if flag(row, "is_below_threshold"):
        return "UNDER THRESHOLD"
    if flag(row, "is_gated") is False:
        return "low confidence"
    return notation.UNDEFINED if flag(row, "is_regression") is None else "no regression"


def _live_title(task: Json) -> str:
    return _plain(f"engine against {clip(text(task, 'live_version') or 'the live version', 80)}")


def _reason(item: Any) -> str:
    if isinstance(item, str):
        return _plain(item)
    code, sentence = text(item, "code"), text(item, "text") or text(item, "detail")
    return _plain(": ".join(part for part in (code, sentence) if part))


def _plain(value: str) -> str:
    return visible(clip(value, 1_000)).replace("\n", " ").replace("\t", " ")
