"""HTML that cannot be broken out of: text is escaped wherever it meets markup. Pure.

`element` is the only maker of tags. A plain `str` is text from somewhere and is escaped; only
`Html`, which this module alone makes, passes as it is. Names of tags and attributes come from our
code.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

Attribute = str | float | bool | None
_VOID = frozenset({"br", "col", "hr", "meta"})


class Html(str):
    """Markup. Made by this module only, so that a `str` in a page is known to be text."""

    __slots__ = ()


def _visible_controls() -> dict[int, str]:
    """What people must see and browsers would hide, reorder or refuse, as something visible."""
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
    table |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
    table |= dict.fromkeys((0xFFFE, 0xFFFF), "\ufffd")
    table[0x7F] = "\u2421"
    # Text that changes its direction half-way can show the opposite of what it says.
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF):
        table[code] = f"[U+{code:04X}]"
    return table


_VISIBLE = _visible_controls()


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, saying how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… (+{len(text) - limit:,} characters)"


def visible(text: str) -> str:
    """The same characters, or a visible sign for those that would not show or would act."""
    return text.translate(_VISIBLE)


def escape(text: str) -> Html:
    """Text as markup, made visible."""
    return Html(html.escape(visible(text), quote=True))


def join(children: Iterable[str | None]) -> Html:
    """Children one after the other; None is nothing."""
    parts = (c if isinstance(c, Html) else escape(c) for c in children if c is not None)
    return Html("".join(parts))


def element(tag: str, /, *children: str | None, **attributes: Attribute) -> Html:
    """One element. `class_` is class, `aria_label` aria-label; True is a bare attribute.

    An attribute that is None or False is left out.
    """
    written = "".join(
        _attribute(key, value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'


def style_sheet(css: str) -> Html:
    """Our own style sheet, as it is: a style element has no escapes."""
    return Html(f"<style>{css}</style>")


def document(head: Html, body: Html) -> str:
    """A whole page."""
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'
