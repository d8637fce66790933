"""Importer of Berkeley Function Calling Leaderboard files: questions and their possible answers.

Source of the format: package `bfcl-eval` 2025, its README and its checker's own reading of it.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.errors import SuiteInvalid
from adapters.parity.suite import Suite, build_suite, iter_lines
from adapters.parity.suite_expect import room_for
from adapters.parity.suite_fields import invalid, read_object, read_tools, short

MAX_VALUES = 512
"""Most whole values that one argument's choices may stand for; the leaderboard's own need 128."""
_LEFT_OUT = ""
"""How the leaderboard writes that an argument may be left out."""
_ID = re.compile(r"(?P<category>.+?)_\d[\d-]*")
_TYPES = {
    **dict.fromkeys(("integer", "int", "long", "short", "byte", "Bigint"), "integer"),
    **dict.fromkeys(("number", "float", "double"), "number"),
    # The leaderboard itself shows `any` to models as a string.
    **dict.fromkeys(("string", "String", "char", "any", "Any"), "string"),
    **dict.fromkeys(("boolean", "bool", "Boolean"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "Array", "ArrayList", "Queue", "Stack"), "array"),
    **dict.fromkeys(("object", "dict", "HashMap", "Hashtable"), "object"),
}
Row = dict[str, Any]


def import_bfcl(
    questions: bytes,
    answers: bytes | None,
    *,
    segment: str | None = None,
    max_tokens: int | None = None,
) -> Suite:
    """A suite of one single-turn category, with every value that the leaderboard allows.

    Types of the function schemas become those of JSON schema (`dict` object, `float` number,
    `tuple` array, ...); names keep their dots. Allowed values become the gold call's `arguments`
    (the first), `alternatives` (the others) and `optional` (where `""` allows to leave it out and
    the schema does not require it). Values that are themselves built of choices (objects, lists of
    objects) are written out, each as a whole. An argument with no allowed value may not be given.
    In categories of irrelevance no tool may be called.

    Args:
        questions: `BFCL_v4_<category>.json`, JSON lines.
        answers: the file of that name in `possible_answer`; None: there is none, and no gold
            (irrelevance apart).
        segment: of all cases; None: the category that the id begins with.
        max_tokens: of all cases; None: by the gold answer's length.

    Raises:
        SuiteInvalid: with line, field, problem and fix; fields of the answers' file begin with
            `ground_truth`. Several turns are refused: one answer cannot be right for them.
    """
    gold = None if answers is None else _read_answers(answers)
    return build_suite(_rows(questions, gold, segment, max_tokens))


def _rows(
    questions: bytes,
    gold: Mapping[str, tuple[int, Any]] | None,
    segment: str | None,
    max_tokens: int | None,
) -> Iterator[tuple[int, Row]]:
    for line, text in iter_lines(questions):
        raw = read_object(line, text)
        messages = _messages(line, raw.get("question"))
        functions = _functions(line, raw.get("function"))
        # Before the answers, which are read by these schemas.
        tools = read_tools(line, [_tool(line, i, item) for i, item in enumerate(functions)])
        case_id = raw.get("id")
        category = _category(case_id)
        row: Row = {
            "id": case_id,
            "messages": messages,
            "tools": list(tools),
            "segment": segment or category,
        }
        expect = _expect(line, str(case_id), category, gold, functions)
        if expect is not None:
            row["expect"] = expect
        row["max_tokens"] = max_tokens or room_for(expect)
        yield line, row


def _category(case_id: Any) -> str:
    match = _ID.fullmatch(case_id) if isinstance(case_id, str) else None
    return match["category"] if match else "bfcl"


def _messages(line: int, question: Any) -> list[Any]:
    if not isinstance(question, list) or not question or not isinstance(question[0], list):
        fix = 'write [[{"role": "user", "content": ...}]]'
        raise invalid(line, "question", f"found {short(question)}", fix)
    if len(question) > 1:
        problem = f"{len(question)} turns"
        fix = "leave out the categories of several turns: no single answer is right for them"
        raise invalid(line, "question", problem, fix)
    return question[0]


def _functions(line: int, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        fix = "import a category whose questions carry a list of functions"
        raise invalid(line, "function", f"found {short(value)}", fix)
    return value


def _tool(line: int, index: int, function: Mapping[str, Any]) -> Row:
    at = f"function[{index}].parameters"
    schema = {**function, "parameters": _schema(line, at, function.get("parameters", {}))}
    return {"type": "function", "function": schema}


def _schema(line: int, at: str, raw: Any) -> Any:
    """The same in JSON schema. Recursion is bounded: `read_object` limits the nesting."""
    if not isinstance(raw, dict):
        return raw
    # `optional` repeats what `required` says.
    schema = {key: value for key, value in raw.items() if key not in {"type", "optional"}}
    kind = raw.get("type")
    if kind:
        if not isinstance(kind, str) or kind not in _TYPES:
            fix = f"known types are {', '.join(sorted(_TYPES))}"
            raise invalid(line, f"{at}.type", f"unknown type {short(kind)}", fix)
        schema = {"type": _TYPES[kind], **schema}
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = {
            name: _schema(line, f"{at}.properties.{name}", inner)
            for name, inner in schema["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = _schema(line, f"{at}.{key}", schema[key])
    return schema


def _read_answers(data: bytes) -> dict[str, tuple[int, Any]]:
    answers = {}
    try:
        for line, text in iter_lines(data):
            raw = read_object(line, text)
            answers[str(raw.get("id"))] = (line, raw.get("ground_truth"))
    except SuiteInvalid as exc:
        # A line of this file and not of the questions'.
        raise SuiteInvalid(**{**exc.fields, "field": "ground_truth"}) from exc
    return answers


def _expect(
    line: int,
    case_id: str,
    category: str,
    gold: Mapping[str, tuple[int, Any]] | None,
    functions: Sequence[Mapping[str, Any]],
) -> Row | None:
    if "irrelevance" in category:
        return {"tool_calls": []}
    if gold is None:
        return None
    if case_id not in gold:
        fix = "give the possible answers of the same category"
        raise invalid(line, "id", f"no answer for {short(case_id)} in the answers' file", fix)
    answer_line, calls = gold[case_id]
    if not isinstance(calls, list):
        fix = "write a list of {function: {argument: [allowed values]}}"
        raise invalid(answer_line, "ground_truth", f"found {short(calls)}", fix)
    schemas = {item["name"]: item.get("parameters", {}) for item in functions}
    return {
        "tool_calls": [
            _call(answer_line, f"ground_truth[{index}]", call, schemas)
            for index, call in enumerate(calls)
        ]
    }


def _call(line: int, at: str, raw: Any, schemas: Mapping[str, Any]) -> Row:
    if not isinstance(raw, dict) or len(raw) != 1 or not isinstance(next(iter(raw.values())), dict):
        fix = "write {function: {argument: [allowed values]}}"
        raise invalid(line, at, f"found {short(raw)}", fix)
    ((name, choices),) = raw.items()
    if name not in schemas:
        fix = f"name one of the question's functions: {', '.join(sorted(schemas))}"
        raise invalid(line, at, f"no function {short(name)} in the question", fix)
    call: Row = {"name": name, "arguments": {}, "alternatives": {}, "optional": []}
    for argument, allowed in choices.items():
        if not isinstance(allowed, list):
            fix = "write a list of allowed values"
            raise invalid(line, f"{at}.{name}.{argument}", f"found {short(allowed)}", fix)
        values = _whole_values(line, f"{at}.{name}.{argument}", allowed)
        _add_argument(
            call, argument, values, may_leave_out=_LEFT_OUT in allowed, schema=schemas[name]
        )
    return {key: value for key, value in call.items() if value or key == "arguments"}


def _add_argument(
    call: Row, argument: str, values: list[Any], *, may_leave_out: bool, schema: Mapping[str, Any]
) -> None:
    properties = schema.get("properties", {})
    if may_leave_out and argument not in properties:
        return  # The checker refuses an argument that the schema does not have.
    if may_leave_out and _is_text(properties[argument]):
        values = [*values, _LEFT_OUT]  # For texts the mark is a right value too.
    is_optional = may_leave_out and argument not in schema.get("required", ())
    if not values:
        return
    if is_optional:
        call["optional"].append(argument)
    if values[0] != _LEFT_OUT or not is_optional:
        call["arguments"][argument], values = values[0], values[1:]
    if values:
        call["alternatives"][argument] = values


def _is_text(schema: Any) -> bool:
    return isinstance(schema, dict) and _TYPES.get(str(schema.get("type"))) == "string"


def _whole_values(line: int, at: str, allowed: Sequence[Any]) -> list[Any]:
    """Every value that the list allows, each once, without the mark for leaving it out."""
    choices = [item for item in allowed if item != _LEFT_OUT]
    n_values = sum(_count(item) for item in choices)
    if n_values > MAX_VALUES:
        fix = f"allow at most {MAX_VALUES}"
        raise invalid(line, at, f"{n_values} allowed values, written out", fix)
    # By spelling: 1, 1.0 and true are equal in Python.
    values = {
        json.dumps(value, sort_keys=True): value for item in choices for value in _expand(item)
    }
    return list(values.values())


def _expand(value: Any) -> Iterator[Any]:
    """The values that a choice stands for: in objects each field is a list of choices again."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield from (list(items) for items in itertools.product(*(list(_expand(v)) for v in value)))
    elif isinstance(value, dict):
        for picked in itertools.product(*(_field_choices(item) for item in value.values())):
            pairs = zip(value, picked, strict=True)
            yield {key: item for key, item in pairs if item != _LEFT_OUT}
    else:
        yield value


def _count(value: Any) -> int:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return math.prod(_count(item) for item in value)
    if isinstance(value, dict):
        return math.prod(len(_field_choices(item)) for item in value.values())
    return 1


def _field_choices(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
