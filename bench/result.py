"""What a scenario measured: figures with one value per run, goals, raw samples; one JSON file each.

The files in bench/results are written by `write_result` and read by `python -m bench.report`. This
module knows neither scenarios nor pages. Format 1, a JSON object: `format`, `scenario`, `variant`,
`question`, `environment`, `parameters`, `figures`, `goals`, `raw`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bench.environment import describe_environment

RESULTS = Path(__file__).resolve().parent / "results"
FORMAT = 1
Better = Literal["lower", "higher"]
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_N_DIGITS = 6
"""Significant digits kept of a number: more than any clock here is worth, and files stay small."""


class BadResult(ValueError):
    """A result that nobody could read; the text names the field and what it should be."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: `values` has one number per run, in `unit` ("ms", "tokens/s", "x").

    `group` is the setting it was measured under ("40 adapters"): figures of one group are one row
    of a table, names are its columns. NaN is a run in which the figure is not defined. A ratio is
    taken within a run, from what was measured in turn, and has the unit "x".

    Raises:
        BadResult: no name, no run, or an infinite value.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    better: Better | None = None
    group: str = ""

    def __post_init__(self) -> None:
        shown = f"figure {self.name!r}" + (f" of {self.group!r}" if self.group else "")
        if not self.name.strip():
            raise BadResult("a figure needs a name")
        if not self.values:
            raise BadResult(f"{shown} has no value: one per run, NaN where it is not defined")
        if any(math.isinf(value) for value in self.values):
            raise BadResult(f"{shown} is infinite in a run: NaN says that it is not defined")
        if self.better not in (None, *get_args(Better)):
            raise BadResult(f"{shown}: better is {self.better!r}, not lower, higher or None")

    @property
    def defined(self) -> tuple[float, ...]:
        """The values of the runs in which there is one."""
        return tuple(value for value in self.values if not math.isnan(value))

    @property
    def median(self) -> float:
        """Over the runs in which it is defined; NaN without one."""
        return statistics.median(self.defined) if self.defined else math.nan

    @property
    def low(self) -> float:
        """The smallest of all runs; NaN without one."""
        return min(self.defined, default=math.nan)

    @property
    def high(self) -> float:
        """The largest of all runs; NaN without one."""
        return max(self.defined, default=math.nan)


@dataclass(frozen=True, slots=True)
class Goal:
    """A line that was drawn before measuring: "at least 0.95", found "0.97 (0.96 to 0.99)".

    Raises:
        BadResult: one of the texts is empty.
    """

    name: str
    wanted: str
    found: str
    is_met: bool

    def __post_init__(self) -> None:
        for key in ("name", "wanted", "found"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip():
                raise BadResult(f"goal {self.name!r}: {key} is {value!r}, not a text")


@dataclass(frozen=True, slots=True)
class Result:
    """What one file says. `variant` is what sets it apart from others of one scenario."""

    scenario: str
    question: str
    parameters: Mapping[str, Any]
    figures: tuple[Figure, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    raw: Any = None
    variant: str = ""

    def __post_init__(self) -> None:
        for key, value in (("scenario", self.scenario), ("variant", self.variant or "none")):
            if not _NAME.fullmatch(value):
                raise BadResult(f"{key} {value!r} is not of the form lower_case_words")
        if not self.question.strip():
            raise BadResult(f"{self.scenario}: a result without the question that it answers")
        if not self.figures:
            raise BadResult(f"{self.scenario}: a result without a figure")
        seen = Counter((figure.group, figure.name) for figure in self.figures)
        if twice := [key for key, count in seen.items() if count > 1]:
            raise BadResult(f"{self.scenario}: figures given twice (group, name): {twice}")

    @property
    def file_name(self) -> str:
        """`tenancy_overhead.json`, or with a variant `chunked_prefill_h100.json`."""
        return "_".join(filter(None, (self.scenario, self.variant))) + ".json"

    @property
    def n_runs(self) -> int:
        """Of the figure that has most."""
        return max(len(figure.values) for figure in self.figures)

    def figure(self, name: str, *, group: str = "") -> Figure:
        """The figure of that name and group.

        Raises:
            BadResult: there is none.
        """
        for figure in self.figures:
            if (figure.group, figure.name) == (group, name):
                return figure
        raise BadResult(f"{self.file_name} has no figure {name!r} of group {group!r}")


def write_result(
    scenario: str,
    *,
    question: str,
    parameters: Mapping[str, Any],
    figures: Sequence[Figure],
    raw: Any,
    goals: Sequence[Goal] = (),
    variant: str = "",
    folder: Path = RESULTS,
) -> Path:
    """Write `folder`/SCENARIO[_VARIANT].json, with this machine's environment, and return its path.

    `raw` and `parameters` may hold numpy values, dataclasses and paths. The file is replaced whole.

    Raises:
        BadResult: a name, question or figure is missing or given twice.
    """
    result = Result(
        scenario, question, parameters, tuple(figures), describe_environment(), tuple(goals), raw,
        variant,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result.file_name
    unfinished = path.with_suffix(".part")
    unfinished.write_text(to_text(result), encoding="utf-8")
    unfinished.replace(path)
    return path


def to_text(result: Result) -> str:
    """The file's text: a line per figure and goal, so that a diff shows what changed."""
    parts = {
        "format": FORMAT,
        "scenario": result.scenario,
        "variant": result.variant,
        "question": result.question,
        "environment": result.environment,
        "parameters": result.parameters,
        "figures": [_figure_to_json(figure) for figure in result.figures],
        "goals": [dataclasses.asdict(goal) for goal in result.goals],
        "raw": result.raw,
    }
    lines = []
    for key, value in parts.items():
        if key in ("figures", "goals") and value:
            rows = ",\n".join(f"  {_dump(row)}" for row in value)
            lines.append(f' "{key}": [\n{rows}\n ]')
        else:
            lines.append(f' "{key}": {_dump(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def is_result_format(document: Any) -> bool:
    """False for the files of scenarios that are older than this format."""
    return isinstance(document, dict) and "format" in document


def read_result(path: Path) -> Result:
    """What `write_result` wrote.

    Raises:
        BadResult: not such a file; the text names the file and the field.
        FileNotFoundError: there is no such file.
    """
    try:
        result = _parse(json.loads(path.read_text(encoding="utf-8")))
    except (BadResult, KeyError, TypeError, json.JSONDecodeError) as error:
        told = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise BadResult(f"{path.name}: {told}; write it again with its scenario") from error
    if result.file_name != path.name:
        raise BadResult(f"{path.name} says that it is {result.file_name}")
    return result


def _parse(document: Any) -> Result:
    if not is_result_format(document) or document["format"] != FORMAT:
        raise BadResult(f"not a result of format {FORMAT}")
    figures = []
    for row in document["figures"]:
        values = tuple(math.nan if value is None else float(value) for value in row["values"])
        figure = Figure(row["name"], row["unit"], values, row["better"], row["group"])
        if any(row[key] != _number(getattr(figure, key)) for key in ("median", "low", "high")):
            raise BadResult(f"figure {figure.name!r} was edited: its summary is not of its values")
        figures.append(figure)
    return Result(
        scenario=document["scenario"],
        variant=document["variant"],
        question=document["question"],
        environment=document["environment"],
        parameters=document["parameters"],
        figures=tuple(figures),
        goals=tuple(Goal(**goal) for goal in document["goals"]),
        raw=document["raw"],
    )


def _figure_to_json(figure: Figure) -> dict[str, Any]:
    # The summary is of the values as they are kept, so that a reader finds the same.
    kept = dataclasses.replace(figure, values=tuple(_rounded(value) for value in figure.values))
    return {
        "group": kept.group,
        "name": kept.name,
        "unit": kept.unit,
        "better": kept.better,
        "median": _number(kept.median),
        "low": _number(kept.low),
        "high": _number(kept.high),
        "values": [_number(value) for value in kept.values],
    }


def _dump(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(each) for each in value]
    return str(value)


def _number(value: float) -> float | None:
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    return float(f"{value:.{_N_DIGITS}g}")
