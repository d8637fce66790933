"""Where the engine first chose another token: both answers side by side, and how close it was.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, flag, number, rows, text
from adapters.parity.report_page.tables import chip, code, details, more, section

_MOST_SHOWN = 100
_OPEN = 3
_UNFOLDED = 12
_CONTEXT = 240
_MARKED = 400
_EQUALITY = {
    "exact": ("same text", "good"),
    "equivalent": ("equivalent answers", "good"),
    "different": ("different answers", "bad"),
}


def render_divergences(report: Json) -> Html:
    """Each first divergence; real ones before near-ties, wide margins first."""
    found = sorted(_found(report), key=_most_telling_first)
    lead = (
        "The first token at which the engine's answer is not the standalone model's choice. "
        "The margin is how much the standalone model prefers its own token there; "
        "rounding alone may decide a near-tie either way."
    )
    if not found:
        sentence = "No answer diverged."
        if number(report, "numeric", "n_answers") is None:
            sentence = "No answer was compared."
        return section("divergences", "First divergences", element("p", sentence), lead=lead)
    cards = [_card(row, is_open=index < _OPEN) for index, row in enumerate(found[:_MOST_SHOWN])]
    first, others = cards[:_UNFOLDED], cards[_UNFOLDED:]
    n_real = sum(flag(row, "is_near_tie") is False for row in found)
    n_ties = sum(flag(row, "is_near_tie") is True for row in found)
    counts = element("p", f"{n_real:,} real, {n_ties:,} near-ties.", class_="counts")
    folded = details(f"{len(others):,} more", *others) if others else None
    rest = more(len(cards), len(found), "divergences")
    return section("divergences", "First divergences", counts, *first, folded, rest, lead=lead)


def _found(report: Json) -> list[Json]:
    return rows(report, "divergences") or list(_from_answers(report))


def _from_answers(report: Json) -> Iterator[dict[str, Any]]:
    """Format 1 has no list of divergences, but each answer's numbers."""
    if "divergences" in report:
        return
    limit = number(report, "resolution", "tie_margin_nats")
    for case in rows(report, "cases"):
        for answer in rows(case, "answers"):
            position = number(answer, "numeric", "first_divergence")
            margin = number(answer, "numeric", "divergence_margin_nats")
            if position is not None:
                is_known = margin is not None and limit is not None
                yield {
                    "case_id": case.get("id"),
                    "segment": case.get("segment"),
                    "repeat": answer.get("repeat"),
                    "position": position,
                    "margin_nats": margin,
                    "is_near_tie": (margin or 0.0) <= (limit or 0.0) if is_known else None,
                    "engine_text": answer.get("text"),
                }


def _most_telling_first(row: Json) -> tuple[bool, bool, float, str]:
    return (
        flag(row, "is_near_tie") is True,
        row.get("equality") != "different",
        -(number(row, "margin_nats") or 0.0),
        text(row, "case_id") or "",
    )


def _card(row: Json, *, is_open: bool) -> Html:
    near = flag(row, "is_near_tie")
    kind = chip("margin unknown", "open")
    if near is not None:
        kind = chip("near-tie", "plain") if near else chip("real", "bad")
    words, style = _EQUALITY.get(str(row.get("equality")), ("answers not compared", "open"))
    summary = element(
        "summary",
        code(clip(text(row, "case_id") or "unnamed", 120)),
        element("span", clip(text(row, "segment") or "", 80), class_="muted"),
        kind,
        chip(words, style),
        element(
            "span", "margin ", notation.shown(notation.nats(number(row, "margin_nats"))),
            class_="margin-text",
        ),
    )  # fmt: skip
    return element("details", summary, _where(row), _sides(row), open=is_open, class_="divergence")


def _where(row: Json) -> Html:
    position, repeat = number(row, "position"), number(row, "repeat")
    tokens = [
        f"{side} chose token {token}"
        for side, key in (("the engine", "engine_token_id"), ("standalone", "standalone_token_id"))
        if (token := text(row, key)) is not None
    ]
    # People count from one, and the JSON from zero.
    at = notation.UNDEFINED if position is None else f"{position + 1:,.0f}"
    again = "" if repeat is None else f" of repeat {repeat + 1:,.0f}"
    return element("p", "; ".join([f"At token {at}{again}", *tokens]), ".", class_="where")


def _sides(row: Json) -> Html:
    standalone, engine = _text_of(row, "standalone_text"), _text_of(row, "engine_text")
    if standalone is None or engine is None:
        return element(
            "div",
            _side("Standalone", _plain(standalone)),
            _side("Engine", _plain(engine)),
            class_="sides",
        )
    prefix, suffix = _common_ends(standalone, engine)
    return element(
        "div",
        _side("Standalone", _marked(standalone, prefix, suffix)),
        _side("Engine", _marked(engine, prefix, suffix)),
        class_="sides",
    )


def _text_of(row: Json, key: str) -> str | None:
    """An answer as it is: an empty one is an answer."""
    value = row.get(key)
    return value if isinstance(value, str) else None


def _side(title: str, answer: Html) -> Html:
    return element("div", element("h4", title), element("pre", answer), class_="side")


def _plain(answer: str | None) -> Html:
    if answer is None:
        return element("span", "not generated", class_="undefined")
    return join([clip(answer, 2 * _CONTEXT)]) if answer else element("em", "(empty)")


def _common_ends(first: str, second: str) -> tuple[int, int]:
    """Lengths of the common beginning, and of the common end of what is left."""
    prefix = _common_prefix(first, second)
    return prefix, _common_prefix(first[prefix:][::-1], second[prefix:][::-1])


def _common_prefix(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _marked(answer: str, prefix: int, suffix: int) -> Html:
    """The answer with what only this side says marked; far from it, the text is cut."""
    end = len(answer) - suffix
    before, own, after = answer[:prefix], answer[prefix:end], answer[end:]
    if len(before) > _CONTEXT:
        before = f"(+{len(before) - _CONTEXT:,} characters) …{before[-_CONTEXT:]}"
    mark = element("mark", clip(own, _MARKED)) if own else element("mark", "", class_="gap")
    shown = [element("span", before, class_="same"), mark, clip(after, _CONTEXT)]
    return join(shown if answer else [element("em", "(empty)")])
