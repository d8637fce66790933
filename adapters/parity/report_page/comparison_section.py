"""The task score by segment: before, after, difference and interval, as numbers and as a plot.

Pure.
"""

from __future__ import annotations

from adapters.parity.report_page import forest, notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import (
    Json,
    flag,
    interval,
    mapping,
    number,
    rows,
    text,
)
from adapters.parity.report_page.tables import Column, chip, more, section, table

_MOST_SEGMENTS = 200
_DEFAULT_MARGIN = 0.005


def render_comparisons(report: Json) -> Html:
    """Engine against standalone, then against the live version, then what the suite can see."""
    task = mapping(report, "task")
    if not task:
        proves = text(report, "proves") or "numeric parity only"
        return section(
            "task",
            "Task score",
            element(
                "p",
                "The suite gives no gold answers, so no task was scored. ",
                clip(proves, 300).rstrip("."),
                ".",
            ),
            _detectable(report),
        )
    serving, live = mapping(task, "serving"), mapping(task, "live")
    parts: list[Html | None] = [_one("What serving changes", serving)]
    if live:
        name = text(task, "live_version") or "the live version"
        parts.append(_one(f"Against {clip(name, 120)}, which is live", live))
    parts.append(_legend(serving or live))
    lead = (
        "Each case is scored before and after, and the pairs are compared. "
        "Rates are shares of passed cases; differences are in percentage points."
    )
    return section("task", "Task score by segment", *parts, _detectable(report), lead=lead)


def _detectable(report: Json) -> Html:
    sentence = text(report, "detectable", "sentence")
    title = element("strong", "What this suite can see. ")
    if sentence is None:
        sentence = "The smallest regression that this suite can rule out is undefined."
    return element("p", title, clip(sentence, 1_000), class_="detectable")


def _one(title: str, comparison: Json) -> Html:
    total = {**mapping(comparison, "total"), "segment": "all segments"}
    segments = sorted(rows(comparison, "segments"), key=_worst_first)
    shown = segments[:_MOST_SEGMENTS]
    before = clip(text(comparison, "before_name") or "before", 80)
    after = clip(text(comparison, "after_name") or "after", 80)
    margin = number(comparison, "rules", "margin")
    differences = [_difference(total, is_total=True), *(_difference(row) for row in shown)]
    scale = forest.choose_scale(differences, margin=_DEFAULT_MARGIN if margin is None else margin)
    plots = [forest.draw_row(item, scale) for item in differences]
    columns = _columns(before, after, comparison)
    lines = [_line(row, plot) for row, plot in zip([total, *shown], plots, strict=True)]
    lines.append(("", *[""] * 3, forest.draw_axis(scale), *[""] * 4))
    classes = ["total", *(_row_class(row) for row in shown), "axis-row"]
    return element(
        "div",
        element("h3", title),
        table(
            f"{title}: {before} and {after} by segment, worst first",
            columns,
            lines,
            class_="cards segments",
            row_classes=classes,
        ),
        more(len(shown), len(segments), "segments"),
        class_="comparison",
    )


def _columns(before: str, after: str, comparison: Json) -> list[Column]:
    confidence = notation.percent(number(comparison, "rules", "confidence"), 0) or ""
    return [
        Column("Segment"),
        Column(f"Before: {before}", "number side"),
        Column(f"After: {after}", "number side"),
        Column(f"Δ and {confidence} interval, points", "number delta", "of the paired difference"),
        Column("Around zero", "plot"),
        Column("Cases", "number"),
        Column("Worse / better", "number", "cases that only one side passed"),
        Column(
            "McNemar p", "number", "exact, two-sided; Holm: of being worse, over all that is gated"
        ),
        Column("In the gate", "judged"),
    ]


def _line(row: Json, plot: Html) -> tuple[str, ...]:
    return (
        clip(text(row, "segment") or "unnamed", 80),
        notation.shown(notation.percent(number(row, "before_rate"))),
        notation.shown(notation.percent(number(row, "after_rate"))),
        _delta(row),
        plot,
        notation.shown(notation.count(number(row, "n"))),
        _discordant(row),
        _p_values(row),
        _judged(row),
    )


def _delta(row: Json) -> Html:
    delta = notation.shown(notation.points(number(row, "delta")))
    return join([delta, " ", element("small", bounds_text(row) or notation.UNDEFINED)])


def bounds_text(row: Json) -> str | None:
    """The interval of a difference, in points; of one without any change there is none."""
    bounds = interval(row, "interval")
    if bounds is not None:
        return " to ".join(notation.points(bound) or "" for bound in bounds)
    is_unchanged = number(row, "n_worse") == 0 and number(row, "n_better") == 0
    return "no case changed" if is_unchanged else None


def _discordant(row: Json) -> Html:
    worse, better = number(row, "n_worse"), number(row, "n_better")
    if worse is None or better is None:
        return notation.undefined()
    counts = join([f"{worse:,.0f} / {better:,.0f}"])
    upper = number(row, "discordance_upper")
    if worse or better or upper is None:
        return counts
    bound = element("small", f"at most {notation.percent(upper)} would")
    return join([counts, " ", bound])


def _p_values(row: Json) -> Html:
    plain = notation.shown(notation.p_value(number(row, "mcnemar_p")))
    corrected = notation.p_value(number(row, "holm_p"))
    return join([plain, " ", element("small", f"Holm {corrected}" if corrected else "no Holm p")])


def _judged(row: Json) -> Html:
    chips: list[str] = []
    if flag(row, "is_regression"):
        chips.append(chip("regression", "bad"))
    if flag(row, "is_below_threshold"):
        chips.append(chip("under threshold", "bad"))
    gated = flag(row, "is_gated")
    if gated is False:
        chips.append(chip("low confidence", "weak"))
    elif not chips and gated:
        chips.append(_not_worse(row))
    threshold = notation.percent(number(row, "threshold"))
    if threshold is not None:
        chips.append(element("small", f"threshold {threshold}"))
    return join(chips) if chips else notation.undefined()


def _not_worse(row: Json) -> Html:
    if flag(row, "is_regression") is None:
        return chip("undecided", "open")
    if flag(row, "is_above_margin"):
        return chip("worse, not proven", "open")
    return chip("no regression", "good")


def _row_class(row: Json) -> str:
    if flag(row, "is_regression") or flag(row, "is_below_threshold"):
        return "is-bad"
    return "is-weak" if flag(row, "is_gated") is False else ""


def _difference(row: Json, *, is_total: bool = False) -> forest.Difference:
    return forest.Difference(
        name=clip(text(row, "segment") or "unnamed", 80),
        delta=number(row, "delta"),
        interval=interval(row, "interval"),
        is_gated=flag(row, "is_gated") is True,
        is_total=is_total,
        bound=number(row, "discordance_upper") if number(row, "n_worse") == 0 else None,
        is_regression=flag(row, "is_regression") is True,
    )


def _worst_first(row: Json) -> tuple[bool, float, str]:
    delta = number(row, "delta")
    gated = flag(row, "is_gated") is True
    return (not gated, 0.0 if delta is None else delta, text(row, "segment") or "")


def _legend(comparison: Json) -> Html:
    points = notation.points(number(comparison, "rules", "margin"))
    margin_text = points.lstrip("+") if points else notation.UNDEFINED
    minimum = notation.count(number(comparison, "rules", "min_cases_per_segment"))
    # Zero where nothing is gated: then nothing is claimed of it.
    rate = notation.percent(number(comparison, "false_block_rate") or None)
    resamples = notation.count(number(comparison, "rules", "n_resamples"))
    sentences = [
        f"Shaded: worse by more than the margin of {margin_text} points.",
        "A diamond is the total, a triangle a regression, a hollow mark a segment that is "
        f"too small to be gated (fewer than {minimum or notation.UNDEFINED} cases); "
        "an arrow says that the interval goes on.",
    ]
    if flag(comparison, "is_binary"):
        sentences.append("Intervals: Tango's score interval of paired proportions.")
    elif resamples:
        sentences.append(f"Intervals: paired bootstrap, {resamples} resamples.")
    if rate:
        sentences.append(f"A version that is no worse is blocked in at most {rate} of runs.")
    return element("p", " ".join(sentences), class_="legend-text")
