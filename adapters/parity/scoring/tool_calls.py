"""Which tool calls does an answer make? Read from the response's `tool_calls` or from its text.

The gate asks the engine for plain text as often as for parsed calls, so every family's syntax is
read here; `docs/scoring.md` lists them. Time is linear in the length of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from adapters.parity.scoring.bare_calls import parse_bare
from adapters.parity.scoring.call_shapes import call_objects, read_call
from adapters.parity.scoring.json_values import FoundValue, iter_values
from adapters.parity.scoring.marked_calls import parse_marked
from adapters.parity.scoring.parsed import (
    Malformed,
    ParsedAnswer,
    ParsedCall,
    assemble,
    without_thought,
)
from adapters.parity.scoring.pythonic import find_call_list

__all__ = ["ParsedAnswer", "ParsedCall", "parse_tool_calls"]

_FENCE_OPEN = re.compile(r"```[A-Za-z_]{0,32}\s{0,8}$")
_FENCE_CLOSE = re.compile(r"\s{0,8}```")
# How far behind an opening brace the keys of a call are looked for when the rest cannot be read.
_LOOK_AHEAD = 2_000
_NAME_KEY = re.compile(r'"(?:name|function)"\s{0,8}:')
_ARGUMENTS_KEY = re.compile(r'"(?:arguments|parameters)"\s{0,8}:')


def parse_tool_calls(
    text: str, *, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> ParsedAnswer:
    """The calls of an answer, whatever the model wrote; never raises.

    `tool_calls` are those of an OpenAI chat response and, when there are any, are the calls; the
    text is then content. Otherwise the text is read. What stands in a leading `<think>` block is
    thought, not said: no call is taken from it.
    """
    if tool_calls:
        return assemble(map(read_call, tool_calls), syntax="openai", content=text)
    said = without_thought(text)
    return parse_marked(said) or parse_bare(said) or _parse_unmarked(said)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    calls: tuple[ParsedCall | Malformed, ...]


def _parse_unmarked(text: str) -> ParsedAnswer:
    spans = _json_spans(text)
    pythonic = find_call_list(text)
    # Whichever begins first holds the other: a list of calls with an object as an argument, or an
    # object with a piece of code as an argument.
    if pythonic is not None and (not spans or pythonic[0] < spans[0].start):
        start, end, calls = pythonic
        return assemble(calls, syntax="pythonic", content=_outside(text, [(start, end)]))
    if not spans:
        return ParsedAnswer(content=text.strip())
    is_fenced = _FENCE_OPEN.search(text[max(0, spans[0].start - 48) : spans[0].start]) is not None
    gaps = [text[one.end : two.start].strip() for one, two in pairwise(spans)]
    syntax = "json_fence" if is_fenced else "llama" if gaps and set(gaps) == {";"} else "json"
    content = _outside(text, [_with_fence(text, span) for span in spans])
    return assemble((call for span in spans for call in span.calls), syntax=syntax, content=content)


def _json_spans(text: str) -> list[_Span]:
    spans: list[_Span] = []
    for found in iter_values(text):
        if not isinstance(found.value, Malformed):
            calls = tuple(map(read_call, call_objects(found.value)))
            if calls:
                spans.append(_Span(found.start, found.end, calls))
        elif _is_begun_call(text, found):
            spans.append(_Span(found.start, len(text), (found.value,)))
            break
    return spans


def _is_begun_call(text: str, found: FoundValue) -> bool:
    """Whether an object that cannot be read has the keys of a call; then the rest belongs to it."""
    if text[found.start] != "{":
        return False
    ahead = text[found.start : found.start + _LOOK_AHEAD]
    return _NAME_KEY.search(ahead) is not None and _ARGUMENTS_KEY.search(ahead) is not None


def _with_fence(text: str, span: _Span) -> tuple[int, int]:
    first = max(0, span.start - 48)
    opening = _FENCE_OPEN.search(text[first : span.start])
    closing = _FENCE_CLOSE.match(text, span.end)
    if opening is None or closing is None:
        return span.start, span.end
    return first + opening.start(), closing.end()


def _outside(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """What stands between and around the spans; a lone separator between calls is not content."""
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    pieces = [text[edges[i] : edges[i + 1]].strip() for i in range(0, len(edges), 2)]
    return "\n".join(piece for piece in pieces if piece.strip(";,[] \n"))
