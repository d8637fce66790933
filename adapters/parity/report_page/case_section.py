"""One row a case, the ones to look at first; bounded, since the JSON report has them all. Pure."""

from __future__ import annotations

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, flag, mapping, number, rows, text
from adapters.parity.report_page.tables import Column, chip, code, details, more, section, table

MOST_CASES = 500
_LONGEST_ANSWER = 160


def render_cases(report: Json) -> Html | None:
    """A collapsed table: cases that got worse, then those that diverged, then the rest."""
    cases = rows(report, "cases")
    if not cases:
        return None
    shown = sorted(cases, key=_most_telling_first)[:MOST_CASES]
    columns = [
        Column("Case", "mono"),
        Column("Segment"),
        Column("Standalone"),
        Column("Engine"),
        Column("Live"),
        Column("Tokens equal", "number"),
        Column("Mean |Δ|, nats", "number"),
        Column("Diverges at token", "number"),
        Column("Adapter effect, nats", "number"),
        Column("Engine's answer", "wide mono"),
    ]
    has_live = any(mapping(case, "scores", "live") for case in cases)
    keep = [column for column in columns if has_live or column.title != "Live"]
    lines = [_line(case, has_live=has_live) for case in shown]
    caption = "Cases: those that got worse first, then those that diverged"
    inner = table(caption, keep, lines, class_="dense")
    rest = more(len(shown), len(cases), "cases")
    title = f"All {len(cases):,} cases"
    if rest is not None:
        title = f"{len(shown):,} of {len(cases):,} cases"
    return section(
        "cases", "Case by case", details(title, rest, inner), lead="Of each case its first answer."
    )


def _most_telling_first(case: Json) -> tuple[int, float]:
    standalone = flag(case, "scores", "standalone", "is_pass")
    engine = [flag(row, "is_pass") for row in rows(case, "scores", "engine")]
    first = mapping(_first_answer(case), "numeric")
    got_worse = standalone is True and False in engine
    got_better = standalone is False and True in engine
    diverged = number(first, "first_divergence") is not None
    rank = 0 if got_worse else 1 if diverged else 2 if got_better else 3
    return (rank, -(number(first, "divergence_margin_nats") or 0.0))


def _first_answer(case: Json) -> Json:
    answers = rows(case, "answers")
    return answers[0] if answers else {}


def _line(case: Json, *, has_live: bool) -> tuple[str, ...]:
    answer = _first_answer(case)
    numeric = mapping(answer, "numeric")
    n_tokens, n_equal = number(numeric, "n_tokens"), number(numeric, "n_equal")
    position = number(numeric, "first_divergence")
    equal = None if n_tokens is None or n_equal is None else f"{n_equal:,.0f} of {n_tokens:,.0f}"
    live = [_outcome([mapping(case, "scores", "live")])] if has_live else []
    return (
        code(clip(text(case, "id") or "unnamed", 120)),
        clip(text(case, "segment") or "", 80),
        _outcome([mapping(case, "scores", "standalone")]),
        _outcome(rows(case, "scores", "engine")),
        *live,
        notation.shown(equal),
        notation.shown(notation.significant(number(numeric, "mean_delta_nats"))),
        notation.NOT_APPLICABLE if position is None else f"{position + 1:,.0f}",
        notation.shown(notation.significant(number(case, "effect_nats"))),
        clip(text(answer, "text") or "", _LONGEST_ANSWER),
    )


def _outcome(scores: list[Json]) -> Html:
    """Passed or not; with repeats, in how many."""
    passes = [passed for row in scores if (passed := flag(row, "is_pass")) is not None]
    if not passes:
        return element("span", "not scored", class_="muted")
    word, kind = ("pass", "good") if all(passes) else ("fail", "bad")
    note = "" if len(set(passes)) == 1 else f" {sum(passes)} of {len(passes)} pass"
    if note:
        word, kind = "differs", "open"
    detail = next((text(row, "detail") for row in scores if flag(row, "is_pass") is False), None)
    small = element("small", clip(detail, 120)) if detail else None
    return join([chip(word + note, kind), " " if small else None, small])
