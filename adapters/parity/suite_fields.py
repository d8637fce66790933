"""Readers of a suite line's plain fields, messages and tools; each error names line, field, fix."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from adapters.errors import SuiteInvalid

MAX_TOKENS_LIMIT = 8_192
MAX_NAME_LENGTH = 200
MAX_DEPTH = 64
"""Deepest nesting of a line; arbitrary, far above any real schema and below Python's own limit."""
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MESSAGE_FIX = 'write [{"role": "user", "content": "..."}]'
_TOOL_FIX = 'write {"type": "function", "function": {"name": ..., "parameters": {...}}}'
_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})


def invalid(line: int, field: str, problem: str, fix: str) -> SuiteInvalid:
    """The one way in which suite files are refused."""
    return SuiteInvalid(line=line, field=field, problem=problem, fix=fix)


def short(value: Any) -> str:
    """A value as it may stand in a sentence."""
    text = value if isinstance(value, str) else repr(value)
    text = repr(text) if isinstance(value, str) else text
    return text if len(text) <= 60 else text[:57] + "..."


def content_id(prefix: str, content: Any) -> str:
    """An id that only this content has, the same in every file and place."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


def only_fields(line: int, path: str, value: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse what nobody would read."""
    unknown = sorted(set(value) - set(known))
    if unknown:
        fix = f"known fields are {', '.join(sorted(known))}"
        at = f"{path}.{unknown[0]}" if path else unknown[0]
        raise invalid(line, at, "unknown field", fix)


def read_object(line: int, text: str) -> dict[str, Any]:
    """One line as a JSON object that any other JSON reader also takes.

    Raises:
        SuiteInvalid: not JSON, not an object, or what JSON can spell and others refuse: half
            surrogates, numbers beyond a double, endless nesting.
    """
    try:
        raw = json.loads(text, parse_constant=_no_constant, parse_float=_double)
    except (ValueError, RecursionError) as exc:
        reason = str(exc) if isinstance(exc, ValueError) else "nested too deep"
        raise invalid(line, "", f"not JSON: {reason}", "write one JSON object per line") from exc
    # Most lines have too few brackets to be so deep, and need no walk.
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth_exceeds(raw, MAX_DEPTH):
        raise invalid(line, "", f"nested deeper than {MAX_DEPTH}", "flatten the value")
    if "\\u" in text and not _is_unicode(raw):
        fix = "write whole characters; half a surrogate pair is none"
        raise invalid(line, "", "a text that is not Unicode", fix)
    if not isinstance(raw, dict):
        raise invalid(line, "", "not an object", 'write {"id": ..., "messages": [...]}')
    return raw


def read_text(
    line: int, raw: Mapping[str, Any], field: str, *, max_length: int | None = None
) -> str:
    """A text that is not empty."""
    value = raw.get(field)
    if not isinstance(value, str) or not value:
        raise invalid(line, field, f"found {short(value)}", "write a text that is not empty")
    if max_length is not None and len(value) > max_length:
        raise invalid(line, field, f"{len(value)} characters", f"use at most {max_length}")
    return value


def read_max_tokens(line: int, value: Any) -> int:
    """A length limit for the answer."""
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if not is_count or not 1 <= value <= MAX_TOKENS_LIMIT:
        fix = f"use a whole number from 1 to {MAX_TOKENS_LIMIT}"
        raise invalid(line, "max_tokens", f"found {short(value)}", fix)
    return int(value)


def read_messages(
    line: int, value: Any, *, path: str = "messages"
) -> tuple[Mapping[str, Any], ...]:
    """A conversation in the OpenAI form, as it was written.

    A message is kept whole: what else it holds (`name`, `tool_call_id`, `reasoning_content`, ...)
    belongs to the chat template of the model.
    """
    if not isinstance(value, list) or not value:
        raise invalid(line, path, f"found {short(value)}", _MESSAGE_FIX)
    for index, item in enumerate(value):
        _check_message(line, f"{path}[{index}]", item)
    return tuple(value)


def text_of(content: Any) -> str:
    """A message's content as one text; empty where there is none."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def is_tool_error(content: Any) -> bool:
    """Whether a tool's result says that the tool failed; see `Case.is_recovery`."""
    text = text_of(content)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text.lstrip()[:5].lower() == "error"
    return isinstance(value, dict) and bool(value.get("error"))


def _check_message(line: int, at: str, item: Any) -> None:
    if not isinstance(item, dict):
        raise invalid(line, at, f"found {short(item)}", _MESSAGE_FIX)
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        fix = f"use one of {', '.join(_ROLES)}"
        raise invalid(line, f"{at}.role", f"found {short(role)}", fix)
    calls = item.get("tool_calls")
    if calls is not None and role != "assistant":
        fix = "only the assistant calls tools; a tool's result is its content"
        raise invalid(line, f"{at}.tool_calls", f"in a message of {role}", fix)
    if "content" not in item and calls is None:
        raise invalid(line, f"{at}.content", "absent", _MESSAGE_FIX)
    _check_content(line, f"{at}.content", item.get("content"), is_optional=role == "assistant")
    for index, call in enumerate(_list(line, f"{at}.tool_calls", calls)):
        _check_message_call(line, f"{at}.tool_calls[{index}]", call)


def _check_content(line: int, at: str, content: Any, *, is_optional: bool) -> None:
    if isinstance(content, str) or (content is None and is_optional):
        return
    if not isinstance(content, list) or not content:
        fix = 'write a text, or a list of {"type": "text", "text": ...}'
        raise invalid(line, at, f"found {short(content)}", fix)
    for index, part in enumerate(content):
        is_text = isinstance(part, dict) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            fix = 'write {"type": "text", "text": ...}; images and sound are not supported'
            raise invalid(line, f"{at}[{index}]", f"found {short(part)}", fix)


def _check_message_call(line: int, at: str, call: Any) -> None:
    fix = 'write {"type": "function", "function": {"name": ..., "arguments": "{...}"}}'
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise invalid(line, at, f"found {short(call)}", fix)
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise invalid(line, f"{at}.function.name", f"found {short(function.get('name'))}", fix)
    if not isinstance(function.get("arguments"), str | dict):
        problem = f"found {short(function.get('arguments'))}"
        raise invalid(line, f"{at}.function.arguments", problem, fix)


def read_tools(line: int, value: Any, *, path: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Tool definitions in the OpenAI form, as they were written.

    `parameters` is a JSON schema of an object; inside its properties any schema is taken.
    """
    if not isinstance(value, list):
        fix = "write a list of tool definitions as in the OpenAI API"
        raise invalid(line, path, f"found {short(value)}", fix)
    names: dict[str, int] = {}
    for index, tool in enumerate(value):
        at = f"{path}[{index}]"
        if not isinstance(tool, dict):
            raise invalid(line, at, f"found {short(tool)}", _TOOL_FIX)
        if tool.get("type") != "function":
            raise invalid(line, f"{at}.type", f"found {short(tool.get('type'))}", _TOOL_FIX)
        only_fields(line, at, tool, {"type", "function"})
        name = _check_function(line, f"{at}.function", tool.get("function"))
        if name in names:
            problem = f"{short(name)} is already {path}[{names[name]}]"
            raise invalid(line, f"{at}.function.name", problem, "define every tool once")
        names[name] = index
    return tuple(value)


def _check_function(line: int, at: str, function: Any) -> str:
    if not isinstance(function, dict):
        raise invalid(line, at, f"found {short(function)}", _TOOL_FIX)
    only_fields(line, at, function, _FUNCTION_FIELDS)
    name = function.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        fix = f"write a name of 1 to {MAX_NAME_LENGTH} characters"
        raise invalid(line, f"{at}.name", f"found {short(name)}", fix)
    if not isinstance(function.get("description", ""), str):
        problem = f"found {short(function['description'])}"
        raise invalid(line, f"{at}.description", problem, "write a text")
    if not isinstance(function.get("strict", False), bool | None):
        problem = f"found {short(function['strict'])}"
        raise invalid(line, f"{at}.strict", problem, "write true or false")
    if "parameters" in function:
        _check_parameters(line, f"{at}.parameters", function["parameters"])
    return name


def _check_parameters(line: int, at: str, schema: Any) -> None:
    fix = 'write a JSON schema: {"type": "object", "properties": {...}, "required": [...]}'
    if not isinstance(schema, dict):
        raise invalid(line, at, f"found {short(schema)}", fix)
    if schema.get("type", "object") != "object":
        raise invalid(line, f"{at}.type", f"found {short(schema['type'])}", fix)
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise invalid(line, f"{at}.properties", f"found {short(properties)}", fix)
    for name, inner in properties.items():
        if not isinstance(inner, dict | bool):
            problem = f"found {short(inner)}"
            raise invalid(line, f"{at}.properties.{name}", problem, "write a JSON schema")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        raise invalid(line, f"{at}.required", f"found {short(required)}", "write a list of names")


def _list(line: int, at: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(line, at, f"found {short(value)}", "write a list")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper; level by level, so that it cannot overflow."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _double(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{short(text)} is beyond a double")
    return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
