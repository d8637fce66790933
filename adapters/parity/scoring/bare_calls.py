"""Calls whose marker is gone: the gate reads text without special tokens, and some are markers.

What Mistral writes as `[TOOL_CALLS]name[ARGS]{...}` is then `name{...}`, and a Llama 3 call of a
built-in tool is `name.call(...)`. Only a whole answer of this form is one. (Where the objects name
their function, or calls are a Python list, nothing is lost with the marker.)
"""

from __future__ import annotations

import re

from adapters.parity.scoring.call_shapes import read_call
from adapters.parity.scoring.json_values import decode_at
from adapters.parity.scoring.parsed import Malformed, ParsedAnswer, ParsedCall, assemble
from adapters.parity.scoring.pythonic import parse_call_list

_NAMED_OBJECT = re.compile(r"\s*([A-Za-z_][\w.\-]{0,127})(?=\{\s*[\"}])")
_BUILT_IN = re.compile(r"[A-Za-z_]\w{0,127}\.call\([\s\S]*\)")
# How a fence's language is left over when its back-ticks are not there.
_NO_NAMES = frozenset({"json"})


def parse_bare(text: str) -> ParsedAnswer | None:
    """The calls of an answer that is nothing but calls without their markers; else None."""
    items = _named_objects(text)
    if items:
        return assemble(items, syntax="mistral", content="")
    if _BUILT_IN.fullmatch(text.strip()):
        calls = [without_call_suffix(item) for item in parse_call_list(text)]
        if not any(isinstance(item, Malformed) for item in calls):
            return assemble(calls, syntax="llama", content="")
    return None


def without_call_suffix(item: ParsedCall | Malformed) -> ParsedCall | Malformed:
    """`brave_search.call(...)` calls the built-in tool `brave_search`."""
    if isinstance(item, ParsedCall) and item.name.endswith(".call"):
        return ParsedCall(item.name.removesuffix(".call"), item.arguments)
    return item


def _named_objects(text: str) -> list[ParsedCall | Malformed]:
    """`name{...}name{...}` as a whole, the last one perhaps cut off; else empty."""
    items: list[ParsedCall | Malformed] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        name = _NAMED_OBJECT.match(text, position)
        if name is None or name.group(1) in _NO_NAMES:
            return []
        found = decode_at(text, name.end())
        if isinstance(found.value, Malformed):
            return [*items, found.value] if found.value == Malformed("ends too early") else []
        items.append(read_call({"name": name.group(1), "arguments": found.value}))
        position = found.end
    return items
