"""Expectations: what a case's right answer is. Reads and checks them; scores nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.parity.suite_fields import MAX_TOKENS_LIMIT, invalid, only_fields, short

KINDS = ("tool_calls", "json", "text", "any_of")
MATCHES = ("exact", "contains")
_ROOM_WITHOUT_GOLD = 128
_ROOM_STEP = 32
_ONE_OF = f"use exactly one of {', '.join(KINDS)}"
_CALL_FIELDS = frozenset({"name", "arguments", "alternatives", "optional"})


def read_expect(
    line: int, value: Any, *, tool_names: frozenset[str] | None, path: str = "expect"
) -> Mapping[str, Any]:
    """A checked expectation, as it was written.

    Args:
        line: for the error.
        value: what stands in the case's `expect`.
        tool_names: names in the case's `tools`; None when the case gives no tools.
        path: for the error.

    Raises:
        SuiteInvalid: not an expectation as `adapters.parity.suite.Case` describes it.
    """
    if not isinstance(value, dict):
        raise invalid(line, path, f"found {short(value)}", _ONE_OF)
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        problem = f"holds {' and '.join(kinds) or 'none of them'}"
        raise invalid(line, path, problem, _ONE_OF)
    kind = kinds[0]
    only_fields(line, path, value, {kind, "match"} if kind == "text" else {kind})
    if kind == "tool_calls":
        _check_calls(line, f"{path}.tool_calls", value[kind], tool_names)
    elif kind == "json":
        _check_json(line, f"{path}.json", value[kind])
    elif kind == "text":
        _check_text(line, path, value)
    else:
        _check_choices(line, path, value[kind], tool_names)
    return value


def choices_of(expect: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The expectation itself, or each of its `any_of`."""
    yield from expect.get("any_of", [expect])


def kind_of(expect: Mapping[str, Any]) -> str:
    """`tool_calls`, `json`, `text` or `any_of`."""
    return next(kind for kind in KINDS if kind in expect)


def shortest_gold(expect: Mapping[str, Any]) -> str:
    """The shortest text that a right answer may be written as, tool calls as one JSON line each.

    For estimates of length alone: models write calls in forms of their own.
    """
    return min((_as_text(choice) for choice in choices_of(expect)), key=len)


def longest_gold(expect: Mapping[str, Any]) -> str:
    """The longest text among the choices, every argument given and each at its longest."""
    return max((_as_text(choice, is_full=True) for choice in choices_of(expect)), key=len)


def room_for(expect: Mapping[str, Any] | None) -> int:
    """A `max_tokens` with room for any right answer: a token for every two bytes of UTF-8, and 32.

    JSON and code come near to that, prose has about four characters a token. Rounded up to steps
    of 32, so that cases of like length have the same limit.
    """
    gold = "" if expect is None else longest_gold(expect)
    if not gold:
        return _ROOM_WITHOUT_GOLD
    n_tokens = len(gold.encode()) / 2 + _ROOM_STEP
    return min(MAX_TOKENS_LIMIT, _ROOM_STEP * math.ceil(n_tokens / _ROOM_STEP))


def _as_text(expect: Mapping[str, Any], *, is_full: bool = False) -> str:
    if "text" in expect:
        return str(expect["text"])
    if "json" in expect:
        return json.dumps(expect["json"], ensure_ascii=False)
    lines = (
        {"name": call["name"], "arguments": _arguments(call, is_full=is_full)}
        for call in expect["tool_calls"]
    )
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)


def _arguments(call: Mapping[str, Any], *, is_full: bool) -> dict[str, Any]:
    given: Mapping[str, Any] = call["arguments"]
    if not is_full:
        return {k: v for k, v in given.items() if k not in call.get("optional", ())}
    others = call.get("alternatives", {})
    values = {
        name: [*([given[name]] if name in given else []), *others.get(name, [])]
        for name in {**given, **others}
    }
    return {
        name: max(items, key=lambda item: len(json.dumps(item))) for name, items in values.items()
    }


def _check_calls(line: int, path: str, value: Any, tool_names: frozenset[str] | None) -> None:
    if not isinstance(value, list):
        fix = 'write [{"name": ..., "arguments": {...}}], or [] where no tool may be called'
        raise invalid(line, path, f"found {short(value)}", fix)
    for index, call in enumerate(value):
        at = f"{path}[{index}]"
        if not isinstance(call, dict):
            fix = 'write {"name": ..., "arguments": {...}}'
            raise invalid(line, at, f"found {short(call)}", fix)
        only_fields(line, at, call, _CALL_FIELDS)
        _check_name(line, f"{at}.name", call.get("name"), tool_names)
        if not isinstance(call.get("arguments"), dict):
            problem = f"found {short(call.get('arguments'))}"
            fix = "write an object, {} for a call without arguments; not a JSON string"
            raise invalid(line, f"{at}.arguments", problem, fix)
        _check_alternatives(line, at, call)
        _check_optional(line, at, call)


def _check_name(line: int, path: str, name: Any, tool_names: frozenset[str] | None) -> None:
    if not isinstance(name, str) or not name:
        raise invalid(line, path, f"found {short(name)}", "write the tool's name")
    if tool_names is not None and name not in tool_names:
        known = ", ".join(sorted(tool_names)) or "none"
        fix = f"use a name from the case's tools ({short(known)}), or add the tool there"
        raise invalid(line, path, f"{short(name)} is not among the case's tools", fix)


def _check_alternatives(line: int, at: str, call: Mapping[str, Any]) -> None:
    value = call.get("alternatives", {})
    if not isinstance(value, dict):
        fix = "write {argument: [other right values]}"
        raise invalid(line, f"{at}.alternatives", f"found {short(value)}", fix)
    optional = call.get("optional", [])
    for argument, allowed in value.items():
        path = f"{at}.alternatives.{argument}"
        if not isinstance(allowed, list) or not allowed:
            fix = "write a list of at least one other right value"
            raise invalid(line, path, f"found {short(allowed)}", fix)
        if argument not in call["arguments"] and argument not in optional:
            fix = "give it a value in arguments, or name it in optional"
            raise invalid(line, path, "neither in arguments nor in optional", fix)


def _check_optional(line: int, at: str, call: Mapping[str, Any]) -> None:
    value = call.get("optional", [])
    path = f"{at}.optional"
    is_names = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not is_names or len(set(value)) != len(value):
        fix = "write a list of argument names, each once"
        raise invalid(line, path, f"found {short(value)}", fix)
    for index, name in enumerate(value):
        if name not in call["arguments"] and name not in call.get("alternatives", {}):
            fix = "give its right value in arguments, or its right values in alternatives"
            raise invalid(line, f"{path}[{index}]", f"no right value for {short(name)}", fix)


def _check_json(line: int, path: str, value: Any) -> None:
    if not isinstance(value, dict | list):
        fix = "write an object or an array; for a plain value use text"
        raise invalid(line, path, f"found {short(value)}", fix)


def _check_text(line: int, path: str, expect: Mapping[str, Any]) -> None:
    if not isinstance(expect["text"], str) or not expect["text"]:
        fix = "write a text that is not empty"
        raise invalid(line, f"{path}.text", f"found {short(expect['text'])}", fix)
    match = expect.get("match", "exact")
    if match not in MATCHES:
        fix = f"use one of {', '.join(MATCHES)}"
        raise invalid(line, f"{path}.match", f"found {short(match)}", fix)


def _check_choices(line: int, path: str, value: Any, tool_names: frozenset[str] | None) -> None:
    path = f"{path}.any_of"
    if not isinstance(value, list) or not value:
        fix = "write a list of at least one expectation"
        raise invalid(line, path, f"found {short(value)}", fix)
    for index, choice in enumerate(value):
        at = f"{path}[{index}]"
        if isinstance(choice, dict) and "any_of" in choice:
            raise invalid(line, at, "any_of inside any_of", "write all choices in one list")
        read_expect(line, choice, tool_names=tool_names, path=at)
