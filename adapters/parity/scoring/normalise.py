"""One form for values that mean the same, so that comparing them is comparing texts.

The rules, in the order in which they apply to one value (`docs/scoring.md` has examples):
1. An object's members are sorted by name; a member that is null is the same as none.
2. A whole number is an integer however it is written (1, 1.0, 1e0); -0.0 is 0. A boolean is never
   a number. Where the schema says number or integer, a string that is one ("1.50") is read.
3. Where the schema says boolean, "true" and "false" in any case are read.
4. A string is put into Unicode NFC; runs of white space become one blank, none at its ends.
5. Where the schema has an enum, a string that is one member but for case is that member.
6. Otherwise a string that is wholly a date or a date-time is put into one ISO form (`dates.py`).
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from adapters.parity.scoring.dates import iso_date
from adapters.parity.scoring.json_values import MAX_DEPTH
from adapters.parity.scoring.schemas import (
    NO_SCHEMA,
    Schema,
    item_schema,
    kind_of,
    property_schema,
    resolve,
)

# The longest that a double is written by any printer; bounds what is handed to float().
_MAX_NUMBER_LENGTH = 40
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)


def normalise(value: Any, schema: Schema = NO_SCHEMA) -> Any:
    """The value in its one form under a JSON schema; normalising again changes nothing."""
    return _normalise(value, resolve(schema, schema), schema, 0)


def canonical(value: Any) -> str:
    """A normalised value as text: equal texts, equal values (and `true` is not 1)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def normalise_text(text: str) -> str:
    """Rule 4 alone: NFC, and each run of white space one blank."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _normalise(value: Any, schema: Schema, root: Schema, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {
            key: _normalise(value[key], property_schema(schema, key, root), root, depth + 1)
            for key in sorted(value)
            if value[key] is not None
        }
    if isinstance(value, list | tuple):
        return [
            _normalise(item, item_schema(schema, index, root), root, depth + 1)
            for index, item in enumerate(value)
        ]
    if isinstance(value, str):
        return _normalise_string(value, schema)
    if isinstance(value, float):
        return _normalise_number(value)
    return value


def _normalise_string(value: str, schema: Schema) -> Any:
    text = normalise_text(value)
    kind = kind_of(schema)
    if kind == "number" and len(text) <= _MAX_NUMBER_LENGTH and _NUMBER.fullmatch(text):
        number = float(text) if re.search(r"[.eE]", text) else int(text)
        return _normalise_number(number)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    allowed = enum_members(schema)
    if allowed:
        return _enum_member(text, allowed)
    return iso_date(text) or text


def _normalise_number(value: float) -> float:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def enum_members(schema: Schema) -> tuple[str, ...]:
    """The texts that a schema's enum allows, each in the form of rule 4."""
    members = schema.get("enum")
    if not isinstance(members, list):
        return ()
    return tuple(normalise_text(item) for item in members if isinstance(item, str))


def _enum_member(text: str, allowed: tuple[str, ...]) -> str:
    if text in allowed:
        return text
    same = {item for item in allowed if item.casefold() == text.casefold()}
    return same.pop() if len(same) == 1 else text
