"""Which JSON objects are calls, and what do they call with which arguments?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapters.parity.scoring.json_values import decode, refusal
from adapters.parity.scoring.parsed import Malformed, ParsedCall

_ARGUMENT_KEYS = ("arguments", "parameters")


def is_call_shaped(value: Any) -> bool:
    """Whether an object that stands alone is meant as a call.

    Without a marker around it, a name alone is not enough: `{"name": "Anna"}` is data.
    """
    if not isinstance(value, Mapping):
        return False
    inner = value.get("function")
    if isinstance(inner, Mapping):
        return is_call_shaped(inner)
    has_name = isinstance(value.get("name"), str) or isinstance(inner, str)
    return has_name and any(key in value for key in _ARGUMENT_KEYS)


def call_objects(value: Any) -> list[Any]:
    """The calls that a JSON value holds: one object, an array of them, or `{"tool_calls": [...]}`.

    Empty when the value, or any item of the array, is not meant as a call.
    """
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    return list(items) if all(is_call_shaped(item) for item in items) else []


def read_calls(value: Any) -> list[ParsedCall | Malformed]:
    """The calls of a value that stands where only calls may stand (behind a marker)."""
    if isinstance(value, Malformed):
        return [value]
    items: Iterable[Any] = value if isinstance(value, list) else [value]
    return [read_call(item) for item in items]


def read_call(value: Any) -> ParsedCall | Malformed:
    """One call; without arguments it has none, and arguments as a JSON string are decoded."""
    if not isinstance(value, Mapping):
        return Malformed("is not a JSON object")
    inner = value.get("function")
    if isinstance(inner, Mapping):
        return read_call(inner) if "function" not in inner else Malformed("has no name")
    name = value.get("name", inner)
    if not isinstance(name, str) or not name.strip():
        return Malformed("has no name")
    arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    if isinstance(arguments, str):
        arguments = decode(arguments) if arguments.strip() else None
    if isinstance(arguments, Malformed):
        return Malformed(f"has arguments of which the text {arguments.reason}")
    if arguments is not None and not isinstance(arguments, Mapping):
        return Malformed("has arguments that are not a JSON object")
    reason = refusal(arguments)
    return ParsedCall(name.strip(), arguments or {}) if reason is None else Malformed(reason)
