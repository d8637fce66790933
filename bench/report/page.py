"""One HTML page of all results, with its script, style and plots in it: nothing from afar. Pure.

Needs the text of plotly's script, which `plotly_script` reads from the installed package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from adapters.parity.report_page.markup import Html, element, join, style_sheet
from bench.report.catalogue import Scenario
from bench.report.docs import about
from bench.report.load import Loaded, scenario_of
from bench.report.plots import plots_of
from bench.report.tables import GoalRow, Table, figure_tables, goal_rows
from bench.report.words import machine, parameters, runs
from bench.result import Result

_HERE = Path(__file__).parent
_TAGS = {True: ("met", "met"), False: ("not met", "missed"), None: ("not measured yet", "open")}


def plotly_script() -> str:
    """The script of the installed plotly, some 5 MB."""
    path = distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    return Path(str(path)).read_text(encoding="utf-8")


def render_page(loaded: Loaded, descriptions: Mapping[str, str], *, script: str) -> str:
    """The whole page. `script` is plotly's; `descriptions` the scenarios' docstrings by name."""
    page = _Page(descriptions)
    known = [(each, loaded.of(each.name)) for each in loaded.scenarios()]
    reported = {stem for _, found in known for stem, _ in found}
    older = [
        (Scenario(scenario_of(stem, result), result.question), [(stem, result)])
        for stem, result in loaded.results.items()
        if stem not in reported
    ]
    goals = goal_rows(loaded)
    sections = [page.section(scenario, found, goals) for scenario, found in known if found]
    more = [page.section(scenario, found, goals) for scenario, found in older]
    missing = [scenario for scenario, found in known if not found]
    body = element(
        "main",
        element("h1", "Benchmarks"),
        element("p", "Every figure is of a file in bench/results. ", *loaded.problems),
        _contents([scenario for scenario, found in (*known, *older) if found]),
        _goals(goals),
        *sections,
        _missing(missing) if missing else None,
        *more,
        element("footer", element("p", "Made by python -m bench.report.")),
    )
    data = json.dumps(page.plots, allow_nan=False).replace("<", "\\u003c")
    own = (_HERE / "page.js").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">{_head()}<body>{body}\n'
        f'<script type="application/json" id="plots">{data}</script>\n'
        f"<script>{script}</script>\n<script>{own}</script>\n</body></html>\n"
    )


def _head() -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", "Benchmarks"),
        style_sheet((_HERE / "page.css").read_text(encoding="utf-8")),
    )


def _missing(scenarios: Sequence[Scenario]) -> Html:
    lines = [
        element("li", element("code", f"python -m bench.scenarios.{each.name}"), f" {each.title}")
        for each in scenarios
    ]
    return element("section", element("h2", "Not measured yet"), element("ul", *lines))


def _contents(scenarios: Sequence[Scenario]) -> Html:
    links = [
        element("li", element("a", each.title, href=f"#{each.name}"))
        for each in (Scenario("goals", "Goals"), *scenarios)
    ]
    return element("nav", element("ol", *links), aria_label="Contents")


def _goals(rows: Sequence[GoalRow]) -> Html:
    head = element("tr", *(element("th", text) for text in ("", "wanted", "found", "", "scenario")))
    lines = [
        element(
            "tr",
            element("th", row.goal, scope="row"),
            element("td", row.wanted),
            element("td", row.found),
            element("td", _tag(row.is_met)),
            element("td", _link(row)),
        )
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *lines), class_="wide")
    return element(
        "section", element("h2", "Goals"), element("div", table, class_="scroll"), id="goals"
    )


def _link(row: GoalRow) -> Html:
    return element("a", row.scenario, href=f"#{row.scenario}") if row.stem else join([row.scenario])


def _tag(is_met: bool | None) -> Html:
    text, kind = _TAGS[is_met]
    return element("span", text, class_=f"tag {kind}")


class _Page:
    """Numbers the plots while sections are made."""

    def __init__(self, descriptions: Mapping[str, str]) -> None:
        self.plots: list[dict[str, Any]] = []
        self._descriptions = descriptions

    def section(
        self,
        scenario: Scenario,
        found: Sequence[tuple[str, Result]],
        goals: Sequence[GoalRow],
    ) -> Html:
        """One scenario with its variants."""
        command = element("code", f"python -m bench.scenarios.{scenario.name}", class_="command")
        head = [element("h2", scenario.title), command]
        question, text = about(found[0][1].question, self._descriptions.get(scenario.name, ""))
        asked, _, rest = text.partition("\n\n") if not question else (question, "", text)
        if asked != scenario.title:
            head.append(element("p", " ".join(asked.split()), class_="question"))
        if rest:
            head.append(
                element("details", element("summary", "How it is measured"), element("pre", rest))
            )
        met = [
            element("li", _tag(row.is_met), f" {row.goal}: wanted {row.wanted}, found {row.found}")
            for row in goals
            if row.stem and row.scenario == scenario.name
        ]
        listed = element("ul", *met, class_="goals") if met else None
        parts = [self._result(scenario, stem, result) for stem, result in found]
        return element("section", *head, listed, *parts, id=scenario.name)

    def _result(self, scenario: Scenario, stem: str, result: Result) -> Html:
        told = parameters(result)
        lines = f"{machine(result)} {runs(result)}" + (f" Settings: {told}." if told else "")
        return join(
            [
                element("h3", stem) if stem != scenario.name else None,
                element("p", lines, class_="soft"),
                self._plots(scenario, result),
                *(_figures(table) for table in figure_tables(result.figures)),
            ]
        )

    def _plots(self, scenario: Scenario, result: Result) -> Html | None:
        drawn = []
        for plot in plots_of(result.figures, scenario.trades):
            hint = element("span", f" ({plot['hint']})") if plot["hint"] else None
            drawn.append(
                element(
                    "figure",
                    element("figcaption", plot["title"], hint),
                    element("div", id=f"plot-{len(self.plots)}"),
                )
            )
            self.plots.append(plot)
        return element("div", *drawn, class_="plots") if drawn else None


def _figures(table: Table) -> Html:
    head = element("tr", *(element("th", text, scope="col") for text in table.columns))
    lines = [
        element(
            "tr",
            element("th", name.replace("`", ""), scope="row"),
            *(element("td", _cell(t)) for t in cells),
        )
        for name, *cells in table.rows
    ]
    made = element("table", element("thead", head), element("tbody", *lines), class_="figures")
    return element("div", made, class_="scroll")


def _cell(text: str) -> Html:
    middle, bracket, rest = text.partition(" (")
    if not bracket:
        return join([middle])
    # The blank stands outside, where a narrow column may break the line.
    return join([middle, " ", element("span", f"({rest}", class_="spread")])
