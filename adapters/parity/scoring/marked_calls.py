"""Calls behind the markers that model families were trained to write.

Sources: the chat templates of Hermes 2 Pro and Qwen 2.5/3 (`<tool_call>`), Llama 3.1 to 4
(`<|python_tag|>`, `<|python_start|>`), Mistral v3 to v13 tokenizers (`[TOOL_CALLS]`).
"""

from __future__ import annotations

import re

from adapters.parity.scoring.bare_calls import without_call_suffix
from adapters.parity.scoring.call_shapes import read_call, read_calls
from adapters.parity.scoring.json_values import decode_answer, decode_at
from adapters.parity.scoring.parsed import Malformed, ParsedAnswer, ParsedCall, assemble
from adapters.parity.scoring.pythonic import parse_call_list

_HERMES_OPEN, _HERMES_CLOSE = "<tool_call>", "</tool_call>"
_MISTRAL = "[TOOL_CALLS]"
_LLAMA = re.compile(r"<\|python_(?:tag|start)\|>")
_LLAMA_END = re.compile(r"<\|(?:python_end|eom_id|eot_id|eot)\|>")
_NOT_SPACE = re.compile(r"\S")
# A name ends at `[ARGS]`, at `[CALL_ID]...[ARGS]`, or where the object begins.
_MISTRAL_NAME = re.compile(
    r"\s*([\w.\-/]{1,256})\s*(?:\[CALL_ID\][\w\-]{0,64}\s*)?(?:\[ARGS\])?\s*(?=\{)"
)

_Items = list[ParsedCall | Malformed]


def parse_marked(text: str) -> ParsedAnswer | None:
    """The calls behind markers; None where the text has no marker."""
    if _HERMES_OPEN in text:
        return _parse_hermes(text)
    if _MISTRAL in text:
        return _parse_mistral(text)
    if _LLAMA.search(text):
        return _parse_llama(text)
    return None


def _parse_hermes(text: str) -> ParsedAnswer:
    before, *parts = text.split(_HERMES_OPEN)
    items: _Items = []
    outside = [before]
    for part in parts:
        # A model that is stopped at the closing tag leaves it out; the JSON must still be whole.
        inside, _, behind = part.partition(_HERMES_CLOSE)
        items += read_calls(decode_answer(inside, is_embedded_allowed=False))
        outside.append(behind)
    return assemble(items, syntax="hermes", content=_joined(outside))


def _parse_mistral(text: str) -> ParsedAnswer:
    before, *parts = text.split(_MISTRAL)
    items: _Items = []
    outside = [before]
    for part in parts:
        named, end = _read_mistral_part(part)
        items += named
        outside.append(part[end:])
    return assemble(items, syntax="mistral", content=_joined(outside))


def _read_mistral_part(part: str) -> tuple[_Items, int]:
    """The calls behind one marker, and where they end."""
    name = _MISTRAL_NAME.match(part)
    if name is not None:
        found = decode_at(part, name.end())
        if isinstance(found.value, Malformed):
            return [found.value], len(part)
        return [read_call({"name": name.group(1), "arguments": found.value})], found.end
    first = _NOT_SPACE.search(part)
    if first is None:
        return [Malformed("ends too early")], len(part)
    found = decode_at(part, first.start())
    if isinstance(found.value, Malformed):
        return [found.value], len(part)
    return read_calls(found.value), found.end


def _parse_llama(text: str) -> ParsedAnswer:
    before, *parts = _LLAMA.split(text)
    items: _Items = []
    outside = [before]
    for part in parts:
        called, end = _read_llama_part(_LLAMA_END.sub(" ", part))
        items += called
        outside.append(_LLAMA_END.sub(" ", part)[end:])
    return assemble(items, syntax="llama", content=_joined(outside))


def _read_llama_part(part: str) -> tuple[_Items, int]:
    """JSON objects with `;` between them, or Python calls (`name.call(...)` for built-in tools)."""
    first = _NOT_SPACE.search(part)
    if first is None:
        return [Malformed("ends too early")], len(part)
    if part[first.start()] != "{" and not part[first.start() :].startswith("[{"):
        return [without_call_suffix(item) for item in parse_call_list(part)], len(part)
    items: _Items = []
    position = first.start()
    while True:
        found = decode_at(part, position)
        items += read_calls(found.value)
        if isinstance(found.value, Malformed):
            return items, len(part)
        behind = _NOT_SPACE.search(part, found.end)
        if behind is None or behind.group() != ";":
            return items, found.end
        following = _NOT_SPACE.search(part, behind.end())
        if following is None:
            return items, len(part)
        position = following.start()


def _joined(pieces: list[str]) -> str:
    return "\n".join(piece.strip() for piece in pieces if piece.strip())
