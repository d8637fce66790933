"""Which tool calls does an answer make? Read from the response's `tool_calls` or from its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """One call: the tool's name as the model wrote it, and its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What an answer says: calls in order, and the text outside of them.

    `syntax` names the way in which the calls were written, None without a call. `problem` says
    what is wrong with a call that was begun but cannot be used; such a call is not in `calls`.
    """

    calls: tuple[ParsedCall, ...] = ()
    syntax: str | None = None
    problem: str | None = None
    content: str = ""


def parse_tool_calls(
    text: str, *, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> ParsedAnswer:
    """The calls of an answer; never raises, whatever the model wrote."""
    if tool_calls:
        calls = []
        for item in tool_calls:
            function = item.get("function", item)
            arguments = function.get("arguments") or {}
            parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
            calls.append(ParsedCall(str(function.get("name")), parsed))
        return ParsedAnswer(tuple(calls), syntax="openai", content=text)
    try:
        value = json.loads(text)
    except ValueError:
        return ParsedAnswer(content=text)
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, dict) and "name" in item for item in items):
        calls = [
            ParsedCall(str(item["name"]), item.get("arguments", item.get("parameters")) or {})
            for item in items
        ]
        return ParsedAnswer(tuple(calls), syntax="json")
    return ParsedAnswer(content=text)
