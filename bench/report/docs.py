"""The generated parts of docs/benchmarks.md: between markers, from result files. Pure.

A part begins with `<!-- generated: NAME -->` and ends with `<!-- end -->`. Names: `goals`,
`scenarios`, `table STEM` for the figures of bench/results/STEM.json.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping

from bench.report.catalogue import Scenario
from bench.report.load import Loaded
from bench.report.tables import (
    GoalRow,
    Table,
    figure_tables,
    goal_rows,
    to_markdown,
)
from bench.report.words import machine, parameters, runs, title_of
from bench.result import Result

_PART = re.compile(r"<!-- generated: ([^>]+?) -->\n(.*?)<!-- end -->", re.DOTALL)
_BEGIN = "<!-- generated:"


class BadDocument(ValueError):
    """A marker without its end, or of a part that nobody generates; the text names it."""


def render(text: str, loaded: Loaded, descriptions: Mapping[str, str]) -> str:
    """The document with all its generated parts written anew.

    `descriptions` has the docstring of each scenario's module, by its name.

    Raises:
        BadDocument: a marker is wrong.
    """
    if text.count(_BEGIN) != len(_PART.findall(text)):
        raise BadDocument(f"a part that begins with `{_BEGIN}` does not end with `<!-- end -->`")
    makers: dict[str, Callable[[], str]] = {
        "goals": lambda: render_goals(loaded),
        "scenarios": lambda: render_scenarios(loaded, descriptions),
    } | {f"table {stem}": _table_of(result) for stem, result in loaded.results.items()}

    def write(found: re.Match[str]) -> str:
        name = found[1]
        if name in makers:
            return f"<!-- generated: {name} -->\n{makers[name]()}<!-- end -->"
        raise BadDocument(f"nobody generates {name!r}; there are {', '.join(sorted(makers))}")

    return _PART.sub(write, text)


def _table_of(result: Result) -> Callable[[], str]:
    return lambda: tables(result)


def tables(result: Result) -> str:
    """All figures of a result."""
    return "\n".join(to_markdown(table) for table in figure_tables(result.figures))


def render_goals(loaded: Loaded) -> str:
    """One row per goal, with a link to the file that says so."""
    return to_markdown(
        Table(
            ("goal", "wanted", "found", "met", "result"),
            tuple(
                (row.goal, row.wanted, row.found, row.met, _link(row)) for row in goal_rows(loaded)
            ),
        )
    )


def _link(row: GoalRow) -> str:
    return f"[{row.stem}](../bench/results/{row.stem}.json)" if row.stem else row.scenario


def render_scenarios(loaded: Loaded, descriptions: Mapping[str, str]) -> str:
    """A section for each scenario that has a result, and which have none."""
    sections, missing = [], []
    for scenario in loaded.scenarios():
        found = loaded.of(scenario.name)
        if found:
            sections.append(_section(scenario, found, descriptions.get(scenario.name, "")))
        else:
            missing.append(f"- {scenario.title}: `python -m bench.scenarios.{scenario.name}`")
    if missing:
        sections.append("## Not measured yet\n\n" + "\n".join(missing) + "\n")
    return "\n".join(sections)


def _section(scenario: Scenario, found: list[tuple[str, Result]], description: str) -> str:
    parts = [
        f"## {scenario.title}: `python -m bench.scenarios.{scenario.name}`\n",
        _about(found[0][1].question, description),
        scenario.about and scenario.about + "\n",
    ]
    for stem, result in found:
        told = parameters(result)
        variant = title_of(stem.removeprefix(scenario.name).strip("_"))
        sentences = [
            variant and f"**{variant}**:",
            f"[Results](../bench/results/{stem}.json): {machine(result)}",
            told and f"Settings: {told}.",
            runs(result),
        ]
        parts += [" ".join(filter(None, sentences)) + "\n", tables(result)]
    return "\n".join(part for part in parts if part)


def _about(question: str, description: str) -> str:
    return "\n\n".join(filter(None, about(question, description))) + "\n"


def about(question: str, description: str) -> tuple[str, str]:
    """(question, how it is answered): a docstring that asks by itself is not asked twice."""
    text = description.strip()
    first = text.partition("\n\n")[0]
    return ("", text) if "?" in first else (question.strip(), text)


def docstring_of(source: str) -> str:
    """Of a module's source, without running it: some start engines when imported by name."""
    return ast.get_docstring(ast.parse(source)) or ""
