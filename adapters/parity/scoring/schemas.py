"""What a tool's JSON schema says about one value: its kind, its enum, what is below it.

Only what normalisation and weighting need; a schema that says two things says nothing here. The
Berkeley leaderboard's type words (`dict`, `float`, `tuple`) are understood too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

NO_SCHEMA: Schema = {}
_KINDS = {"integer": "number", "float": "number", "dict": "object", "tuple": "array"}
_MAX_HOPS = 16


def tool_schemas(tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Schema]:
    """The parameter schemas of the tools by name, as OpenAI writes tools (or bare functions)."""
    schemas: dict[str, Schema] = {}
    for tool in tools or ():
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            schemas[function["name"]] = parameters if isinstance(parameters, Mapping) else NO_SCHEMA
    return schemas


def resolve(schema: Any, root: Schema) -> Schema:
    """The schema behind local `$ref`s and behind "this or null"; empty if it says two things."""
    for _ in range(_MAX_HOPS):
        if not isinstance(schema, Mapping):
            return NO_SCHEMA
        if isinstance(schema.get("$ref"), str):
            schema = _at_pointer(root, schema["$ref"])
            continue
        choices = schema.get("anyOf", schema.get("oneOf", schema.get("allOf")))
        if not isinstance(choices, list):
            return schema
        others = [item for item in choices if item != {"type": "null"}]
        if len(others) != 1:
            return NO_SCHEMA
        schema = others[0]
    return NO_SCHEMA


def kind_of(schema: Schema) -> str | None:
    """`string`, `number`, `boolean`, `object`, `array`; None if the schema allows several."""
    declared = schema.get("type")
    kinds = declared if isinstance(declared, list) else [declared]
    known = {_KINDS.get(kind, kind) for kind in kinds if isinstance(kind, str) and kind != "null"}
    return known.pop() if len(known) == 1 else None


def property_schema(schema: Schema, name: str, root: Schema) -> Schema:
    """The schema of one member of an object."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return resolve(properties[name], root)
    return resolve(schema.get("additionalProperties"), root)


def item_schema(schema: Schema, index: int, root: Schema) -> Schema:
    """The schema of one item of an array."""
    first = schema.get("prefixItems")
    if isinstance(first, list) and index < len(first):
        return resolve(first[index], root)
    return resolve(schema.get("items"), root)


def required_names(schema: Schema) -> frozenset[str]:
    """The members that an object must have."""
    required = schema.get("required")
    if not isinstance(required, list):
        return frozenset()
    return frozenset(name for name in required if isinstance(name, str))


def _at_pointer(root: Schema, pointer: str) -> Any:
    if not pointer.startswith("#/"):
        return None
    place: Any = root
    for part in pointer[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        place = place.get(key) if isinstance(place, Mapping) else None
    return place
