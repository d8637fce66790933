"""Suite cases with gold, as short as they can be written."""

from __future__ import annotations

import json
from typing import Any

from adapters.parity.suite import Case


def tool(name: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["Celsius", "Fahrenheit"]},
        "note": {"type": "string"},
    },
    required=("city",),
)
BOOKING = tool("book_table", {"guests": {"type": "integer"}, "at": {"type": "string"}}, ("at",))


def gold_call(name: str = "get_weather", /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def case_with(expect: dict[str, Any] | None, *, messages: Any = None) -> Case:
    asked = messages or [{"role": "user", "content": "How is the weather?"}]
    return Case(id="c", messages=tuple(asked), tools=(WEATHER, BOOKING), expect=expect)


def calls_case(*gold: dict[str, Any], messages: Any = None) -> Case:
    return case_with({"tool_calls": list(gold)}, messages=messages)


def written(*calls: dict[str, Any]) -> str:
    """An answer that makes these calls, in the Hermes syntax."""
    return "\n".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls)


def after_error(*, failed: dict[str, Any], error: str = '{"error": "no such city"}') -> list[Any]:
    """A conversation that ends with a tool's error."""
    function = {"name": failed["name"], "arguments": json.dumps(failed["arguments"])}
    return [
        {"role": "user", "content": "How is the weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": error},
    ]
