"""What the judges of free-text answers said, and how far each of them can be trusted. Pure."""

from __future__ import annotations

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, flag, mapping, number, rows, text
from adapters.parity.report_page.tables import Column, chip, code, details, more, section, table

_MOST_ROWS = 200


def render_judge(report: Json) -> Html:
    """Each judge's self-consistency first, then the counts by segment; or that none was asked."""
    judge = mapping(report, "judge")
    if not judge:
        return section("judge", "Judge", element("p", "No judge was asked."))
    lead = (
        "Models that compare two free-text answers without knowing which is whose. Each is first "
        "asked about a sample in both orders: a judge that contradicts itself is refused. A pair "
        "without a majority is dropped and counted."
    )
    return section(
        "judge", "Judge", _judges(judge), _counts(judge), _test(judge), _pairs(judge), lead=lead
    )


def _judges(judge: Json) -> Html:
    columns = [
        Column("Judge"),
        Column("Model", "mono"),
        Column("Self-consistency", "number", "pairs with one preference in both orders"),
        Column("Questions", "number"),
        Column("No vote", "number", "answers that are no vote"),
        Column("Used"),
    ]
    lines = [
        (
            clip(text(row, "name") or "unnamed", 60),
            code(clip(" at ".join(filter(None, (text(row, "model"), text(row, "host")))), 120)),
            _consistency(row),
            notation.shown(notation.count(number(row, "n_questions"))),
            notation.shown(notation.count(number(row, "n_invalid"))),
            _used(row),
        )
        for row in rows(judge, "judges")[:_MOST_ROWS]
    ]
    return table("Judges", columns, lines, class_="cards")


def _consistency(row: Json) -> Html:
    share = notation.shown(notation.percent(number(row, "consistency")))
    n = notation.count(number(row, "n"))
    return join([share, element("small", f"of {n} pairs") if n else None])


def _used(row: Json) -> Html:
    if flag(row, "is_accepted"):
        return chip("accepted", "good")
    why = "refused" if flag(row, "is_refused") else "not usable"
    problem = text(row, "problem")
    small = element("small", clip(problem, 200)) if problem else None
    return join([chip(why, "bad"), small])


def _counts(judge: Json) -> Html | None:
    total = mapping(judge, "total")
    if not total:
        return None
    before = clip(text(judge, "before_name") or "before", 60)
    columns = [
        Column("Segment"),
        Column("Pairs", "number"),
        Column("Equal texts", "number", "not asked: nothing to prefer"),
        Column("Ties", "number", "equal texts included"),
        Column("Dropped", "number", "no majority"),
        Column(f"Preferred: {before}", "number"),
        Column("Preferred: engine", "number"),
        Column("Net loss, points", "number", "preferred before minus preferred after"),
    ]
    keys = ("n_pairs", "n_equal", "n_ties", "n_dropped", "n_before_preferred", "n_after_preferred")
    segments = rows(judge, "segments")
    lines = [
        (
            clip(text(row, "segment") or "unnamed", 80),
            *(notation.shown(notation.count(number(row, key))) for key in keys),
            notation.shown(notation.points(number(row, "net_loss"))),
        )
        for row in [{**total, "segment": "all segments"}, *segments[:_MOST_ROWS]]
    ]
    inner = table("Judged pairs by segment", columns, lines, row_classes=["total"])
    return element("div", inner, more(len(lines) - 1, len(segments), "segments"))


def _test(judge: Json) -> Html:
    plain, worse = (notation.p_value(number(judge, key)) for key in ("mcnemar_p", "worse_p"))
    sentence = (
        f"McNemar p {plain or notation.UNDEFINED} (exact, two-sided); "
        f"of being preferred less {worse or notation.UNDEFINED}."
    )
    decided = chip("not worse", "good")
    if flag(judge, "is_usable") is False:
        decided = chip("not usable", "open")
    elif flag(judge, "is_worse") is None:
        decided = chip("undecided", "open")
    elif flag(judge, "is_worse"):
        decided = chip("worse", "bad")
    return element("p", decided, " ", sentence)


def _pairs(judge: Json) -> Html | None:
    """The pairs that were decided for one side, or by nobody; ties say little."""
    pairs = [row for row in rows(judge, "pairs") if text(row, "decision") != "tie"]
    if not pairs:
        return None
    columns = [
        Column("Case", "mono"),
        Column("Segment"),
        Column("Decision"),
        Column("Votes", "wide"),
    ]
    lines = [
        (
            code(clip(text(row, "case_id") or "unnamed", 120)),
            clip(text(row, "segment") or "", 80),
            clip(text(row, "decision") or "", 40),
            clip(_votes(mapping(row, "votes")), 300),
        )
        for row in pairs[:_MOST_ROWS]
    ]
    inner = table("Pairs that are no tie", columns, lines)
    return details(
        f"Pairs that are no tie ({len(pairs):,})", inner, more(len(lines), len(pairs), "pairs")
    )


def _votes(votes: Json) -> str:
    return ", ".join(f"{name}: {vote}" for name, vote in list(votes.items())[:20])
