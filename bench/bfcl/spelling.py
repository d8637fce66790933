"""One answer in each syntax that models write calls in, so that parsing is compared too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bench.bfcl.leaderboard import Calls

ToolCalls = list[dict[str, Any]] | None


def spell(calls: Calls, number: int) -> tuple[str, ToolCalls]:
    """The answer as (text, `tool_calls`), in the syntax whose turn it is."""
    if not calls:
        return "I cannot do that with the tools that I have.", None
    return _SPELLINGS[number % len(_SPELLINGS)](calls)


def _pairs(calls: Calls) -> list[tuple[str, dict[str, Any]]]:
    return [pair for call in calls for pair in call.items()]


def _openai(calls: Calls) -> tuple[str, ToolCalls]:
    return "", [
        {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments in _pairs(calls)
    ]


def _hermes(calls: Calls) -> tuple[str, ToolCalls]:
    bodies = (json.dumps({"name": name, "arguments": a}) for name, a in _pairs(calls))
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies), None


def _llama(calls: Calls) -> tuple[str, ToolCalls]:
    bodies = [json.dumps({"name": name, "parameters": a}) for name, a in _pairs(calls)]
    return "<|python_tag|>" + "; ".join(bodies), None


def _mistral(calls: Calls) -> tuple[str, ToolCalls]:
    body = json.dumps([{"name": name, "arguments": a} for name, a in _pairs(calls)])
    return f"[TOOL_CALLS] {body}", None


def _fenced(calls: Calls) -> tuple[str, ToolCalls]:
    body = json.dumps([{"name": name, "arguments": a} for name, a in _pairs(calls)], indent=2)
    return f"Let me see:\n```json\n{body}\n```", None


def _pythonic(calls: Calls) -> tuple[str, ToolCalls]:
    if not all(key.isidentifier() for _, arguments in _pairs(calls) for key in arguments):
        return _hermes(calls)
    written = (
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
        for name, arguments in _pairs(calls)
    )
    return f"[{', '.join(written)}]", None


_SPELLINGS: tuple[Callable[[Calls], tuple[str, ToolCalls]], ...] = (
    *(_openai, _hermes, _llama, _mistral, _fenced, _pythonic),
)
