"""After a tool's error: does the answer make a call that can work where the last one did not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.parity.scoring.call_shapes import read_call
from adapters.parity.scoring.normalise import canonical, normalise
from adapters.parity.scoring.parsed import ParsedAnswer, ParsedCall
from adapters.parity.scoring.schemas import NO_SCHEMA, Schema, required_names, resolve
from adapters.parity.suite import Case
from adapters.parity.suite_fields import is_tool_error


def is_recovered(case: Case, answer: ParsedAnswer, *, schemas: Mapping[str, Schema]) -> bool:
    """Whether one call is valid and is not the call that failed; a broken call spoils it.

    Valid: the tool is one of the case's, what its schema requires is there and not null, and no
    argument is unknown to a schema that lists its properties.
    """
    if answer.problem is not None:
        return False
    failed = {call_key(call, schemas) for call in failed_calls(case.messages or ())}
    return any(
        _is_valid(call, schemas) and call_key(call, schemas) not in failed for call in answer.calls
    )


def failed_calls(messages: Sequence[Mapping[str, Any]]) -> list[ParsedCall]:
    """The calls of the last assistant message whose results, at the end, are errors.

    Results without an id are about all of that message's calls.
    """
    position = len(messages)
    failed_ids: list[Any] = []
    while position and messages[position - 1].get("role") == "tool":
        position -= 1
        if is_tool_error(messages[position].get("content")):
            failed_ids.append(messages[position].get("tool_call_id"))
    made = messages[position - 1].get("tool_calls") if position else None
    calls = [
        read_call(item)
        for item in made or ()
        if failed_ids and (None in failed_ids or item.get("id") in failed_ids)
    ]
    return [call for call in calls if isinstance(call, ParsedCall)]


def call_key(call: ParsedCall, schemas: Mapping[str, Schema]) -> tuple[str, str]:
    """Name and normalised arguments as text: equal keys, equal calls."""
    schema = schemas.get(call.name, NO_SCHEMA)
    return call.name, canonical(normalise(call.arguments, schema))


def _is_valid(call: ParsedCall, schemas: Mapping[str, Schema]) -> bool:
    if schemas and call.name not in schemas:
        return False
    root = schemas.get(call.name, NO_SCHEMA)
    schema = resolve(root, root)
    if any(call.arguments.get(name) is None for name in required_names(schema)):
        return False
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or schema.get("additionalProperties"):
        return True
    return all(name in properties for name in call.arguments)
