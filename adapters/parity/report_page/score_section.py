"""Every task metric, standalone beside engine beside live. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, mapping, number, rows, text
from adapters.parity.report_page.tables import Column, details, section, table

_MOST_SEGMENTS = 200


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric is named and written; `better` says which way is good."""

    key: str
    title: str
    better: str
    write: Callable[[float | None], str | None]


def _share(value: float | None) -> str | None:
    return notation.percent(value)


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}".replace("-", "\u2212")


def _calls(value: float | None) -> str | None:
    if value is None:
        return None
    written = f"{value:+.2f}".replace("-", "\u2212") if abs(value) >= 0.005 else "0.00"
    return f"{written} calls"


METRICS = (
    Metric("pass_rate", "Cases passed", "higher is better", _share),
    Metric("score", "Mean score", "higher is better", _score),
    Metric("tool_selection", "Tool selection", "higher is better", _share),
    Metric("argument_exact", "Arguments exactly right", "higher is better", _share),
    Metric("argument_f1", "Argument token F1", "higher is better", _score),
    Metric("hallucination_rate", "Hallucinated fields", "lower is better", _share),
    Metric("recovery", "Recovery after a tool error", "higher is better", _share),
    Metric("trajectory_delta", "Calls more than needed", "nearer to zero is better", _calls),
)


def render_scores(report: Json) -> Html | None:
    """All metrics over all cases, then by segment; None where nothing was scored."""
    over_all = mapping(report, "task", "metrics")
    segments = [row for row in rows(report, "segments") if _is_scored(mapping(row, "metrics"))]
    if not _is_scored(over_all) and not segments:
        return None
    n_scored = notation.count(number(report, "task", "n_scored"))
    lead = f"{n_scored or 'All'} cases with a gold answer, scored for each side."
    by_segment = _by_segment(segments) if segments else None
    return section("scores", "Scores", _over_all(over_all), by_segment, lead=lead)


def _is_scored(metrics: Json) -> bool:
    return any(_is_known(metrics, metric) for metric in METRICS)


def _over_all(metrics: Json) -> Html:
    has_live = any(number(metrics, metric.key, "live") is not None for metric in METRICS)
    sides = ["standalone", "engine", *(["live"] if has_live else [])]
    columns = [
        Column("Metric"),
        *(Column(side.capitalize(), "number") for side in sides),
        Column("Engine minus standalone", "number"),
        Column(""),
    ]
    lines = []
    for metric in METRICS:
        values = [number(metrics, metric.key, side) for side in sides]
        lines.append(
            (
                metric.title,
                *(notation.shown(metric.write(value)) for value in values),
                notation.shown(_change(metric, values[0], values[1])),
                element("span", metric.better, class_="muted"),
            )
        )
    return table("Metrics over all scored cases", columns, lines, class_="cards")


def _change(metric: Metric, standalone: float | None, engine: float | None) -> str | None:
    if standalone is None or engine is None:
        return None
    if metric.write is _share:
        return f"{notation.points(engine - standalone)} points"
    digits = 2 if metric.write is _calls else 3
    written = f"{engine - standalone:+.{digits}f}"
    return written.replace("-", "\u2212") if float(written) else f"{0:.{digits}f}"


def _by_segment(segments: list[Json]) -> Html:
    """One row a segment; a cell says standalone, engine, and live where there is one."""
    present = [
        metric
        for metric in METRICS
        if any(_is_known(mapping(row, "metrics"), metric) for row in segments)
    ]
    columns = [Column("Segment"), *(Column(metric.title, "number") for metric in present)]
    lines = [
        (
            clip(text(row, "segment") or "unnamed", 80),
            *(_cell(mapping(row, "metrics", metric.key), metric) for metric in present),
        )
        for row in segments[:_MOST_SEGMENTS]
    ]
    inner = table("Metrics by segment: standalone → engine", columns, lines)
    note = element("p", "standalone → engine, and the live version in brackets.", class_="muted")
    return details("Metrics by segment", note, inner)


def _is_known(metrics: Json, metric: Metric) -> bool:
    values = mapping(metrics, metric.key)
    return any(number(values, side) is not None for side in ("standalone", "engine", "live"))


def _cell(values: Json, metric: Metric) -> Html:
    standalone, engine, live = (
        metric.write(number(values, side)) for side in ("standalone", "engine", "live")
    )
    if standalone is None and engine is None and live is None:
        return notation.undefined()
    shown = join([notation.shown(standalone), " → ", notation.shown(engine)])
    return shown if live is None else join([shown, f" ({live})"])
