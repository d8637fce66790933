"""Tables, lists of facts, chips and sections: the page's few building blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapters.parity.report_page.markup import Html, element, join


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; numbers are set flush right, wide text may wrap."""

    title: str
    kind: str = ""
    """"number", "wide", "mono", or nothing."""
    hint: str = ""
    """What the title means, for people who point at it."""


def table(
    caption: str,
    columns: Sequence[Column],
    lines: Iterable[Sequence[str]],
    *,
    class_: str = "",
    row_classes: Sequence[str] = (),
) -> Html:
    """A table that scrolls sideways by itself; each line's first cell is its header.

    With the class "cards", a narrow screen shows each line as a card. The roles are said aloud
    because some browsers forget them when a table is not displayed as one.
    """
    head = element(
        "tr", *[_head(column, role="columnheader", scope="col") for column in columns], role="row"
    )
    body = [
        element("tr", *_cells(columns, line), role="row", class_=_at(row_classes, index))
        for index, line in enumerate(lines)
    ]
    inner = element(
        "table",
        element("caption", caption, class_="visually-hidden"),
        element("thead", head, role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        class_=class_ or None,
        role="table",
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _at(values: Sequence[str], index: int) -> str | None:
    return (values[index] or None) if index < len(values) else None


def _head(column: Column, **attributes: str) -> Html:
    return element(
        "th",
        column.title,
        class_=column.kind or None,
        title=column.hint or None,
        **attributes,
    )


def _cells(columns: Sequence[Column], line: Sequence[str]) -> list[Html]:
    return [
        element(
            "td" if index else "th",
            value,
            class_=column.kind or None,
            data_label=column.title,
            role="cell" if index else "rowheader",
            scope=None if index else "row",
        )
        for index, (column, value) in enumerate(zip(columns, line, strict=True))
    ]


def facts(pairs: Iterable[tuple[str, str]], *, class_: str = "facts") -> Html:
    """Names and values, one under the other or side by side as there is room."""
    children = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", *children, class_=class_)


def chip(text: str, kind: str = "") -> Html:
    """A short word in a frame; `kind` adds a colour and, by style, a sign before the word."""
    return element("span", text, class_=f"chip {kind}".strip())


def code(text: str) -> Html:
    """A name or digest as it is written."""
    return element("code", text)


def section(anchor: str, title: str, *children: str | None, lead: str | None = None) -> Html:
    """A numbered part of the page with a heading and one sentence on what it shows."""
    heading = element("h2", title, id=f"h-{anchor}")
    sentence = element("p", lead, class_="lead") if lead else None
    return element(
        "section", heading, sentence, *children, id=anchor, aria_labelledby=f"h-{anchor}"
    )


def more(shown: int, total: int, what: str) -> Html | None:
    """How many rows the page leaves out; the JSON has them all."""
    if total <= shown:
        return None
    text = (
        f"{shown:,} of {total:,} {what} are shown; the JSON report has the other {total - shown:,}."
    )
    return element("p", text, class_="more")


def details(summary: str, *children: str | None, is_open: bool = False) -> Html:
    """A part that opens without a script."""
    return element("details", element("summary", summary), join(children), open=is_open)
