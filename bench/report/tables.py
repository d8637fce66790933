"""Figures as tables: which are rows and which are columns, and the table as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.report.before import faster, is_before
from bench.report.catalogue import N_RUNS, SCENARIOS, WANTS, Want
from bench.report.load import Loaded
from bench.report.words import heading, spread, title_of
from bench.result import Figure, Goal, Result

_MANY_COLUMNS = 5
"""A table wider than this is turned, where it is then narrower; arbitrary, chosen for a page."""
_COLUMNS_OF_GOALS = ("goal", "wanted", "found", "met", "scenario")


@dataclass(frozen=True, slots=True)
class Table:
    """Texts only; each row has a cell per column, the first of them its name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def figure_tables(figures: Sequence[Figure]) -> list[Table]:
    """A row per group and a column per name, or turned; groups without a figure in common apart."""
    tables = []
    for part in _related(figures):
        groups = list(dict.fromkeys(figure.group for figure in part))
        names = list(dict.fromkeys((figure.name, figure.unit) for figure in part))
        cells = {(figure.group, figure.name, figure.unit): spread(figure) for figure in part}
        heads = [heading(*name) for name in names]
        if len(groups) == 1 or (len(names) > _MANY_COLUMNS and len(groups) < len(names)):
            columns = [title_of(group) or "found" for group in groups]
            rows = [
                (head, *(cells.get((group, *name), "") for group in groups))
                for head, name in zip(heads, names, strict=True)
            ]
        else:
            columns = heads
            rows = [
                (title_of(group) or "all", *(cells.get((group, *name), "") for name in names))
                for group in groups
            ]
        tables.append(Table(("", *columns), tuple(rows)))
    return tables


def _related(figures: Sequence[Figure]) -> list[list[Figure]]:
    """Parts in which the groups have most names in common: one table each, in order."""
    names_of: dict[str, list[tuple[str, str]]] = {}
    for figure in figures:
        names_of.setdefault(figure.group, []).append((figure.name, figure.unit))
    parts: list[tuple[set[tuple[str, str]], list[str]]] = []
    for group, names in names_of.items():
        own = set(names)
        for known, groups in parts:
            if 2 * len(known & own) >= min(len(known), len(own)):
                known |= own
                groups.append(group)
                break
        else:
            parts.append((own, [group]))
    return [[figure for figure in figures if figure.group in groups] for _, groups in parts]


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A line of the table of goals; `is_met` is None for what was not measured yet."""

    goal: str
    wanted: str
    found: str
    is_met: bool | None
    scenario: str
    stem: str | None

    @property
    def met(self) -> str:
        """In one word."""
        return {True: "met", False: "not met", None: "not measured yet"}[self.is_met]


def goal_rows(loaded: Loaded) -> list[GoalRow]:
    """By scenario: what was promised, in its order, and then the scenario's further goals."""
    rows: list[GoalRow] = []
    for each in loaded.scenarios():
        found = loaded.of(each.name)
        # What was found before a change is no answer any more.
        own = [
            (stem, goal) for stem, result in found if not is_before(stem) for goal in result.goals
        ]
        for want in (want for want in WANTS if want.scenario == each.name):
            answers = [item for item in own if want.topic.lower() in item[1].name.lower()]
            own = [item for item in own if item not in answers]
            kept = [_row(each.name, *item) for item in answers] or _by_figure(want, found)
            rows += kept or [GoalRow(want.name, want.wanted, "", None, each.name, None)]
        rows += [_row(each.name, *item) for item in own]
    return [*rows, _spread_row(loaded), _faster_row(loaded)]


def _by_figure(want: Want, found: Sequence[tuple[str, Result]]) -> list[GoalRow]:
    return [
        GoalRow(want.name, want.wanted, spread(figure), True, want.scenario, stem)
        for stem, result in found
        for figure in result.figures
        if want.figure and figure.name == want.figure and figure.defined
    ]


def _row(scenario: str, stem: str, goal: Goal) -> GoalRow:
    variant = title_of(stem.removeprefix(scenario).strip("_"))
    name = f"{goal.name} ({variant})" if variant else goal.name
    return GoalRow(name, goal.wanted, goal.found, goal.is_met, scenario, stem)


def _spread_row(loaded: Loaded) -> GoalRow:
    """Of the reported scenarios: which have a result over enough runs."""
    lacking = [each.name for each in SCENARIOS if not _has_runs(loaded.of(each.name))]
    n_good = len(SCENARIOS) - len(lacking)
    found = f"{n_good} of {len(SCENARIOS)}" + (f"; not {', '.join(lacking)}" if lacking else "")
    return GoalRow(
        f"scenarios with a spread over {N_RUNS} runs", "all", found, not lacking, "", None
    )


def _faster_row(loaded: Loaded) -> GoalRow:
    """Which results say what a path cost before it was made faster, and what it costs since."""
    found = faster(loaded.results)
    return GoalRow(
        "a hot path made faster because of what a scenario showed",
        "before and after in a result",
        "; ".join(f"{stem}: {told}" for stem, told in found.items()),
        True if found else None,
        "",
        next(iter(found), None),
    )


def _has_runs(found: Iterable[tuple[str, Result]]) -> bool:
    return any(result.n_runs >= N_RUNS for _, result in found)


def goals_table(rows: Sequence[GoalRow]) -> Table:
    """Without links: those are the medium's own."""
    return Table(
        _COLUMNS_OF_GOALS,
        tuple((row.goal, row.wanted, row.found, row.met, row.scenario) for row in rows),
    )


def to_markdown(table: Table) -> str:
    """A table that GitHub and people can read; ends with a line break."""
    lines = [_line(table.columns), "|" + "---|" * len(table.columns), *map(_line, table.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
