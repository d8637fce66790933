"""The gold answer of a question, and the same answer changed in one way at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from adapters.parity.scoring.dates import iso_date
from bench.bfcl.leaderboard import Calls, Question

SPELLINGS = frozenset(
    {
        *("capitals", "small letters", "full stop behind", "hyphen for blank", "quotes around"),
        *("blanks doubled", "line break for blank", "number as text", "whole number as float"),
        *("float as whole number", "boolean as text", "date in words", "date in ISO form"),
        *("date with slashes", "null"),
    }
)
"""Changes of how something is written; all others change what is meant, or nothing."""


@dataclass(frozen=True)
class Answer:
    """An answer and what was done to the gold's. `argument`: (function, argument) that changed."""

    kind: str
    calls: Calls
    argument: tuple[str, str] | None = None

    @property
    def is_respelt(self) -> bool:
        """Whether the change is one of writing alone."""
        return self.kind.rpartition(": ")[2] in SPELLINGS

    @property
    def value(self) -> Any:
        """The changed argument's value now, in the first call that has it; None if left out."""
        if self.argument is None:
            return None
        name, argument = self.argument
        return next((call[name].get(argument) for call in self.calls if name in call), None)


def answers_to(question: Question) -> Iterator[Answer]:
    """The gold answer first, then every change that applies to it."""
    if not question.possible_answers:
        yield from _uncalled_for(question)
        return
    gold = _gold(question)
    yield Answer("gold", gold)
    yield from _changed_calls(question, gold)
    for argument, value in next(iter(gold[0].values())).items():
        yield from _changed_argument(question, gold, argument, value)
    yield from _further_arguments(question, gold)


def _gold(question: Question) -> Calls:
    expect = question.case.expect or {}
    return [{call["name"]: dict(call["arguments"])} for call in expect["tool_calls"]]


def _uncalled_for(question: Question) -> Iterator[Answer]:
    yield Answer("no call", [])
    for function in question.functions[:1]:
        yield Answer("a call of nothing", [{function["name"]: {}}])
        properties = function["parameters"].get("properties", {})
        yield Answer("a call", [{function["name"]: dict.fromkeys(properties, "x")}])


def _changed_calls(question: Question, gold: Calls) -> Iterator[Answer]:
    name, arguments = next(iter(gold[0].items()))
    yield Answer("no call", [])
    yield Answer("call missing", gold[1:])
    yield Answer("call doubled", [gold[0], *gold])
    if len(gold) > 1:
        yield Answer("order reversed", gold[::-1])
        yield Answer("order rotated", [*gold[1:], gold[0]])
    for other in [item["name"] for item in question.functions if item["name"] != name][:1]:
        yield Answer("other function", [{other: arguments}, *gold[1:]])
    yield Answer("unknown function", [{f"{name}_x": arguments}, *gold[1:]])
    yield Answer("function in capitals", [{name.upper(): arguments}, *gold[1:]])
    if "." in name:
        yield Answer("dot as underscore", [{name.replace(".", "_"): arguments}, *gold[1:]])


def _changed_argument(
    question: Question, gold: Calls, argument: str, value: Any
) -> Iterator[Answer]:
    name = next(iter(gold[0]))
    is_required = argument in question.schema_of(name).get("required", [])
    changes = [
        ("required left out" if is_required else "optional left out", None),
        ("null", [None]),
        ("empty string", [""]),
        *((kind, [changed]) for kind, changed in _other_forms(value)),
        *(("alternative", [other]) for other in _alternatives(question, argument)),
    ]
    for kind, change in changes:
        calls = copy.deepcopy(gold)
        if change is None:
            del calls[0][name][argument]
        else:
            calls[0][name][argument] = change[0]
        yield Answer(kind, calls, (name, argument))


def _alternatives(question: Question, argument: str) -> list[Any]:
    expect = question.case.expect or {}
    return expect["tool_calls"][0].get("alternatives", {}).get(argument, [])[:3]


def _further_arguments(question: Question, gold: Calls) -> Iterator[Answer]:
    name, arguments = next(iter(gold[0].items()))
    calls: Calls = [{name: {**arguments, "verbosity_of_reply": "high"}}, *gold[1:]]
    yield Answer("unknown field", calls, (name, "verbosity_of_reply"))
    for argument in question.schema_of(name).get("properties", {}):
        if argument not in arguments:
            calls = [{name: {**arguments, argument: "invented"}}, *gold[1:]]
            yield Answer("invented optional", calls, (name, argument))


def _other_forms(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, bool):
        yield from (("wrong value", not value), ("boolean as text", str(value).lower()))
        yield "boolean as number", int(value)
    elif isinstance(value, int | float):
        yield from _other_numbers(value)
    elif isinstance(value, str):
        yield from _other_texts(value)
    elif isinstance(value, list):
        yield from _other_lists(value)
    elif isinstance(value, dict):
        yield "object with a further key", {**value, "invented": 1}
        for key in list(value)[:1]:
            yield "object without a key", {k: v for k, v in value.items() if k != key}
            yield "key in capitals", {(k.upper() if k == key else k): v for k, v in value.items()}
            for kind, changed in _other_forms(value[key]):
                yield f"in object: {kind}", {**value, key: changed}


def _other_numbers(value: float) -> Iterator[tuple[str, Any]]:
    yield "wrong value", value + 1
    yield "slightly wrong value", value + 0.001
    yield "number as text", str(value)
    yield "number in a list", [value]
    if isinstance(value, int):
        yield "whole number as float", float(value)
    elif value.is_integer():
        yield "float as whole number", int(value)


def _other_texts(value: str) -> Iterator[tuple[str, Any]]:
    yield "wrong value", f"not {value}"
    yield "words swapped", " ".join(reversed(value.split()))
    yield "capitals", value.upper()
    yield "small letters", value.lower()
    yield "full stop behind", f"{value}."
    yield "quotes around", f"'{value}'"
    yield "blanks doubled", f" {value.replace(' ', '  ')} "
    yield "line break for blank", value.replace(" ", "\n") + "\n"
    yield "hyphen for blank", value.replace(" ", "-")
    yield "text in a list", [value]
    iso = iso_date(value)
    if iso is not None and len(iso) == len("2025-03-04"):
        day = date.fromisoformat(iso)
        yield "date in words", f"{day:%B} {day.day}, {day.year}"
        yield "date in ISO form", iso
        yield "date with slashes", f"{day:%m/%d/%Y}"


def _other_lists(value: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "list reversed", value[::-1]
    yield "list with an item more", [*value, *value[:1]]
    yield "list with an item less", value[:-1]
    if value:
        yield "list as its first item", value[0]
        for kind, changed in _other_forms(value[0]):
            yield f"in list: {kind}", [changed, *value[1:]]
