"""The leaderboard's own data and checker, from package `bfcl-eval`, imported without its handlers.

Its checker imports the table of all model handlers, and with it every vendor's client, to ask one
thing: does this model write dots in names as underscores? A stand-in table answers "no".
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import ModuleType, SimpleNamespace
from typing import Any

from adapters.parity.suite import Case
from adapters.parity.suite_bfcl import import_bfcl

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
MODEL = "any"
_MODEL_TABLE = "bfcl_eval.constants.model_config"
Calls = list[dict[str, dict[str, Any]]]
"""The leaderboard's form of an answer: `[{name: arguments}, ...]`."""


@dataclass(frozen=True)
class Question:
    """One question in both forms."""

    case: Case
    category: str
    functions: list[dict[str, Any]]
    possible_answers: list[dict[str, dict[str, list[Any]]]]

    def schema_of(self, name: str) -> dict[str, Any]:
        """The leaderboard's own description of a function's arguments."""
        function = next((item for item in self.functions if item["name"] == name), {})
        return function.get("parameters", {})

    def allowed(self, name: str, argument: str) -> list[Any]:
        """Every value that the possible answers of that name allow for an argument."""
        return [
            value
            for answer in self.possible_answers
            if name in answer
            for value in answer[name].get(argument, [])
        ]

    def whole_values(self, name: str, argument: str) -> list[Any]:
        """The same, with values that are made of choices written out (as the importer does)."""
        calls = [call for call in (self.case.expect or {})["tool_calls"] if call["name"] == name]
        first = [call["arguments"][argument] for call in calls if argument in call["arguments"]]
        others = [call.get("alternatives", {}).get(argument, []) for call in calls]
        return [*first, *(value for values in others for value in values)]


def load_questions(category: str) -> list[Question]:
    """All questions of a category that the package brings along."""
    data = files("bfcl_eval") / "data"
    questions = (data / f"BFCL_v4_{category}.json").read_bytes()
    answers_file = data / "possible_answer" / f"BFCL_v4_{category}.json"
    answers = answers_file.read_bytes() if answers_file.is_file() else None
    suite = import_bfcl(questions, answers)
    functions = {row["id"]: row["function"] for row in _rows(questions)}
    possible = {row["id"]: row["ground_truth"] for row in _rows(answers or b"")}
    return [
        Question(case, category, functions[case.id], possible.get(case.id, []))
        for case in suite.cases
    ]


def leaderboard_passes(question: Question, calls: Calls) -> bool:
    """The verdict of the leaderboard on an answer; an exception of its checker is a refusal."""
    if question.category == "irrelevance":
        return bool(_is_empty_output()(calls))
    checker, python = _checker()
    try:
        verdict = checker(
            question.functions, calls, question.possible_answers, python, question.category, MODEL
        )
    except (TypeError, AttributeError, KeyError, ValueError, IndexError):
        return False
    return bool(verdict["valid"])


def _rows(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().split("\n") if line.strip()]


@cache
def _checker() -> tuple[Callable[..., dict[str, Any]], Any]:
    table = ModuleType(_MODEL_TABLE)
    table.__dict__["MODEL_CONFIG_MAPPING"] = {MODEL: SimpleNamespace(underscore_to_dot=False)}
    before = sys.modules.get(_MODEL_TABLE)
    sys.modules[_MODEL_TABLE] = table
    try:
        module = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
    finally:
        sys.modules.pop(_MODEL_TABLE)
        if before is not None:
            sys.modules[_MODEL_TABLE] = before
    language = importlib.import_module("bfcl_eval.constants.enums").Language
    return module.ast_checker, language.PYTHON


@cache
def _is_empty_output() -> Callable[[Any], bool]:
    # The module makes folders for results when it is imported, beside itself if not told where.
    before = os.environ.get("BFCL_PROJECT_ROOT")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BFCL_PROJECT_ROOT"] = folder
        try:
            check: Callable[[Any], bool] = importlib.import_module(
                "bfcl_eval.utils"
            ).is_empty_output
        finally:
            os.environ.pop("BFCL_PROJECT_ROOT")
            if before is not None:
                os.environ["BFCL_PROJECT_ROOT"] = before
    return check
