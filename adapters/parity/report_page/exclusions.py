"""What the numbers leave out: excluded cases, and how much of the suite is in the training set.

Pure.
"""

from __future__ import annotations

from collections import Counter

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element
from adapters.parity.report_page.reading import Json, mapping, number, rows, text
from adapters.parity.report_page.tables import Column, chip, code, details, more, section, table

_MOST_ROWS = 200
_WHY = {
    "contaminated": "nearly the same text is in the training set",
    "too_long": "longer than the engine takes",
}


def render_exclusions(report: Json) -> Html:
    """Excluded cases and the contamination sweep; both said also when there is nothing."""
    excluded = rows(report, "excluded")
    return section(
        "excluded",
        "What was left out",
        _sentence(report, excluded),
        _excluded_table(excluded) if excluded else None,
        _contamination(mapping(report, "contamination")),
    )


def _sentence(report: Json, excluded: list[Json]) -> Html:
    if not excluded:
        return element("p", "No case of the suite was left out.")
    reasons = Counter(text(row, "reason") or "unstated" for row in excluded)
    parts = [f"{n:,} because {_WHY.get(why, why)}" for why, n in sorted(reasons.items())]
    n_left = number(report, "suite", "n_cases")
    n_cases = notation.count(None if n_left is None else n_left + len(excluded))
    was = "was" if len(excluded) == 1 else "were"
    whole = f"Of {n_cases or notation.UNDEFINED} cases, {len(excluded):,} {was} left out"
    start = f"{whole} of every number below: "
    return element("p", start, clip("; ".join(parts), 500), ".")


def _excluded_table(excluded: list[Json]) -> Html:
    columns = [Column("Case", "mono"), Column("Segment"), Column("Why"), Column("Detail", "wide")]
    lines = [
        (
            code(clip(text(row, "id") or "", 120)),
            clip(text(row, "segment") or "", 80),
            clip(text(row, "reason") or "", 80),
            clip(text(row, "detail") or "", 300),
        )
        for row in excluded[:_MOST_ROWS]
    ]
    inner = table("Cases that were left out", columns, lines)
    rest = more(len(lines), len(excluded), "excluded cases")
    return details(f"Left-out cases ({len(excluded):,})", inner, rest)


def _contamination(found: Json) -> Html:
    title = element("h3", "Contamination")
    if not found:
        text_ = (
            "No training set was given, so it is unknown whether training saw cases of this suite."
        )
        return element("div", title, element("p", text_, class_="caution"))
    rules = mapping(found, "rules")
    limit = notation.percent(number(rules, "max_fraction"))
    fraction = notation.percent(number(found, "fraction"), 2)
    sentence = element(
        "p",
        f"{notation.count(number(found, 'n_cases')) or 'The'} cases were compared with ",
        f"{notation.count(number(found, 'n_documents')) or 'the'} documents of the training set. ",
        "Leaked: ",
        element("strong", notation.shown(fraction)),
        f"; the suite is refused above {limit or notation.UNDEFINED}.",
        _blind_spots(found),
    )
    return element("div", title, sentence, _sweep(found, rules), _leaks(found))


def _blind_spots(found: Json) -> str | None:
    n_without = number(found, "n_without_text")
    missed = notation.significant(number(found, "search", "miss_probability"), 2)
    parts = []
    if n_without:
        parts.append(f" {n_without:,.0f} cases hold no text, so nothing is known of them.")
    if missed:
        parts.append(f" A pair just at the threshold is missed with probability {missed}.")
    return "".join(parts) or None


def _sweep(found: Json, rules: Json) -> Html:
    """How the count depends on the threshold: a cliff there would make it arbitrary."""
    used = number(rules, "jaccard")
    columns = [
        Column("Jaccard similarity of at least", "number"),
        Column("Leaked cases", "number"),
        Column("Share of the suite", "number"),
        Column(""),
    ]
    lines = [
        (
            notation.shown(notation.significant(number(row, "jaccard"))),
            notation.shown(notation.count(number(row, "n_leaked"))),
            notation.shown(notation.percent(number(row, "fraction"), 2)),
            chip("in force", "plain") if used == number(row, "jaccard") else "",
        )
        for row in rows(found, "sweep")[:20]
    ]
    return table("Leaked cases by threshold of similarity", columns, lines, class_="compact")


def _leaks(found: Json) -> Html | None:
    leaks = sorted(rows(found, "leaks"), key=lambda row: -(number(row, "jaccard") or 0.0))
    if not leaks:
        return None
    columns = [
        Column("Case", "mono"),
        Column("Line of the training set", "number"),
        Column("Jaccard", "number"),
    ]
    lines = [
        (
            code(clip(text(row, "case_id") or "", 120)),
            notation.shown(notation.count(number(row, "document"))),
            notation.shown(notation.significant(number(row, "jaccard"))),
        )
        for row in leaks[:_MOST_ROWS]
    ]
    inner = table("Leaked cases, most similar first", columns, lines)
    return details(f"Leaked cases ({len(leaks):,})", inner, more(len(lines), len(leaks), "leaks"))
