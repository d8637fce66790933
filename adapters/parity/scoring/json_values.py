"""JSON values in text that a model wrote: decoded strictly, searched for in linear time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from adapters.parity.scoring.parsed import Malformed

# Deeper than any tool's arguments that we know; keeps every recursive reader far from its limit.
MAX_DEPTH = 64
# Each failed attempt may read to the end of the text; a constant number of them keeps it linear.
_MAX_FAILURES = 64
# An object, or an array of containers: `[1]` in prose is a footnote more often than JSON.
_OPENING = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*[\[{])")
_FENCED = re.compile(r"```[A-Za-z_]*\s*(.*?)\s*```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FoundValue:
    """A JSON value, or the beginning of one, at `text[start:end]` (`end` is `start` if broken)."""

    start: int
    end: int
    value: Any


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_at(text: str, start: int) -> FoundValue:
    """The JSON value that begins at `start` (no white space before it).

    `value` is a `Malformed` for what is not JSON, for numbers that no float holds and for nesting
    beyond `MAX_DEPTH`.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as exc:
        ends_early = exc.pos >= len(text.rstrip()) or exc.msg.startswith("Unterminated")
        reason = "ends too early" if ends_early else f"is not JSON at character {exc.pos}"
        return FoundValue(start, start, Malformed(reason))
    except (ValueError, RecursionError):
        return FoundValue(start, start, Malformed("is not JSON"))
    unusable = refusal(value)
    return FoundValue(start, end, value if unusable is None else Malformed(unusable))


def decode(text: str) -> Any:
    """The one JSON value that the whole text is, or a `Malformed`."""
    stripped = text.strip()
    found = decode_at(stripped, 0)
    if not isinstance(found.value, Malformed) and found.end != len(stripped):
        return Malformed("has text behind its JSON")
    return found.value


def decode_answer(text: str, *, is_embedded_allowed: bool) -> Any:
    """The JSON that an answer gives: the whole text, or the whole inside of one code fence.

    With `is_embedded_allowed` also the first object, or array of containers, within prose.
    Gives a `Malformed` where there is none.
    """
    value = decode(text)
    if not isinstance(value, Malformed):
        return value
    fence = _FENCED.fullmatch(text.strip())
    if fence is not None:
        return decode(fence.group(1))
    if is_embedded_allowed:
        for found in iter_values(text):
            if not isinstance(found.value, Malformed):
                return found.value
    return value


def iter_values(text: str) -> Iterator[FoundValue]:
    """JSON objects and arrays of containers within text, the outermost ones, in order.

    A beginning that cannot be read is given as `Malformed`, and the search goes on behind its
    first character; after 64 of those the text is junk and the search ends.
    """
    position, n_failures = 0, 0
    while n_failures < _MAX_FAILURES:
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        found = decode_at(text, opening.start())
        yield found
        if isinstance(found.value, Malformed):
            n_failures += 1
            position = max(found.end, opening.start() + 1)
        else:
            position = found.end


def refusal(value: Any) -> str | None:
    """Why a decoded value cannot be used: nested too deeply, or a number beyond every float."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                return "holds a number beyond every float"
        if not below:
            return None
        level = below
    return f"is nested deeper than {MAX_DEPTH} levels"
