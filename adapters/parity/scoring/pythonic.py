"""Calls written as Python, `[f(a=1, b="x"), g()]`: parsed to a tree, never evaluated."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

from adapters.parity.scoring.json_values import MAX_DEPTH, refusal
from adapters.parity.scoring.parsed import Malformed, ParsedCall

# Arbitrary, far above any list of calls; bounds what Python's own parser is given.
_MAX_LENGTH = 20_000
_OPENING = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")
_MAX_ATTEMPTS = 8
_CLOSING = {"(": ")", "[": "]", "{": "}"}
# Models that were trained on JSON write these names in Python too.
_JSON_NAMES: Mapping[str, Any] = {"true": True, "false": False, "null": None}


class _NotACallError(Exception):
    """Carries out of the tree walk why it is not a list of calls with literal arguments."""


def find_call_list(text: str) -> tuple[int, int, list[ParsedCall | Malformed]] | None:
    """The first `[f(...), ...]` in text: where it stands, and its calls.

    At the very start of a text a broken list is a problem; within prose it is prose.
    """
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return None
        start = opening.start()
        end = _end_of_brackets(text, start)
        calls: list[ParsedCall | Malformed] = [Malformed("ends too early")]
        if end is not None:
            calls = parse_call_list(text[start:end])
        is_broken = any(isinstance(item, Malformed) for item in calls)
        if not is_broken or not text[:start].strip():
            return start, len(text) if end is None else end, calls
        position = start + 1
    return None


def parse_call_list(text: str) -> list[ParsedCall | Malformed]:
    """The calls of `[f(...), g(...)]` or of a single `f(...)`; all of them, or one `Malformed`."""
    text = text.strip()
    if len(text) > _MAX_LENGTH:
        return [Malformed(f"is longer than {_MAX_LENGTH} characters")]
    if _end_of_brackets(text, 0) is None:
        return [Malformed("ends too early")]
    try:
        with warnings.catch_warnings():
            # An unknown escape such as "\d" in a string is a warning about source code.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_call(node) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [Malformed("is not a Python call")]
    except _NotACallError as exc:
        return [Malformed(str(exc))]


def _call(node: ast.expr) -> ParsedCall:
    if not isinstance(node, ast.Call):
        raise _NotACallError("is not a Python call")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise _NotACallError("has arguments without a name")
    arguments = {str(item.arg): _literal(item.value) for item in node.keywords}
    if len(arguments) < len(node.keywords):
        raise _NotACallError("has an argument twice")
    reason = refusal(arguments)
    if reason is not None:
        raise _NotACallError(reason)
    return ParsedCall(_dotted(node.func), arguments)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise _NotACallError("has no plain name")


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(
        node.value, str | int | float | bool | type(None)
    ):
        return node.value
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _key(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _literal(node.operand)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    raise _NotACallError("has an argument that is not a literal value")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _NotACallError("has an object whose keys are not strings")


def _end_of_brackets(text: str, start: int) -> int | None:
    """Behind the bracket that closes the first one; None when it stays open or nests too deeply."""
    still_open: list[str] = []
    position, limit = start, min(len(text), start + _MAX_LENGTH)
    while position < limit:
        character = text[position]
        if character in "\"'":
            position = _end_of_string(text, position)
        elif character in _CLOSING:
            still_open.append(_CLOSING[character])
        elif character in ")]}":
            if not still_open or still_open.pop() != character:
                return None
            if not still_open:
                return position + 1
        if len(still_open) > MAX_DEPTH:
            return None
        position += 1
    return None


def _end_of_string(text: str, start: int) -> int:
    """Where the quote stands that closes the one at `start`; the text's end without one."""
    position = start + 1
    while position < len(text) and text[position] != text[start]:
        position += 2 if text[position] == "\\" else 1
    return position
