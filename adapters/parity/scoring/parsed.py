"""What a parsed answer is made of; the parsers beside this module give these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """One call: the tool's name as the model wrote it, and its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A call that was begun but cannot be used; `reason` completes "the call ..."."""

    reason: str


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What an answer says: calls in the order in which they stand, and the text outside of them.

    `syntax` names the way in which calls were written or begun (`openai`, `hermes`, `mistral`,
    `llama`, `pythonic`, `json`, `json_fence`), None without any. `problem` says what is wrong with
    the first call that was begun but cannot be used; such a call is not in `calls`.
    """

    calls: tuple[ParsedCall, ...] = ()
    syntax: str | None = None
    problem: str | None = None
    content: str = ""


def assemble(items: Iterable[ParsedCall | Malformed], *, syntax: str, content: str) -> ParsedAnswer:
    """Usable calls and the first problem, in one answer."""
    calls: list[ParsedCall] = []
    problem: str | None = None
    for item in items:
        if isinstance(item, ParsedCall):
            calls.append(item)
        elif problem is None:
            problem = f"the call {item.reason}"
    has_any = bool(calls) or problem is not None
    return ParsedAnswer(tuple(calls), syntax if has_any else None, problem, content.strip())


_THOUGHT_OPEN, _THOUGHT_CLOSE = "<think>", "</think>"


def without_thought(text: str) -> str:
    """What an answer says: the text behind a leading `<think>` block, empty if that never ends."""
    is_opened = text.lstrip().startswith(_THOUGHT_OPEN)
    # Some templates write the opening tag into the prompt, so that only the closing one is here.
    if _THOUGHT_CLOSE in text and (is_opened or _THOUGHT_OPEN not in text):
        return text.rpartition(_THOUGHT_CLOSE)[2]
    return "" if is_opened else text
