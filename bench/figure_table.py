"""Figures on a terminal: a table with a row per group, and the line that says what runs now."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.result import Figure, Goal

_WIDTH = 200
"""Of a table that goes into a file."""


class Say:
    """Tells what runs now; each `step` is one of the steps that were announced."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """One more step is over; `text` is what follows.

        A line of its own where stderr is no terminal: a bar is not drawn there, and in a log half
        an hour of nothing looks like a program that hangs.
        """
        self._progress.update(self._task, advance=1, description=text)
        if not self._progress.console.is_terminal:
            task = self._progress.tasks[0]
            seconds = time.monotonic() - self._began
            print(
                f"{seconds:5.0f} s  {task.completed:.0f}/{task.total:.0f}  {text}",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    def now(self, text: str) -> None:
        """What runs now, within a step."""
        self._progress.update(self._task, description=text)

    def stage(self, text: str, seconds: float) -> None:
        """As `now`, with how long it has taken so far."""
        self.now(f"{text}, {seconds:.0f} s")


@contextmanager
def progress_line(text: str, *, n_steps: int) -> Iterator[Say]:
    """A progress bar on stderr for as long as the block lasts."""
    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Say(progress, progress.add_task(text, total=n_steps))


def print_figures(title: str, figures: Sequence[Figure], goals: Sequence[Goal] = ()) -> None:
    """Median and range over the runs of every figure, then the goals."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    names = list(dict.fromkeys((figure.name, figure.unit) for figure in figures))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name, unit in names:
        table.add_column(f"{name}, {unit}" if unit else name, justify="right")
    cells = {(f.group, f.name, f.unit): shown(f) for f in figures}
    for group in dict.fromkeys(figure.group for figure in figures):
        table.add_row(group, *(cells.get((group, *name), "") for name in names))
    console.print(table)
    for goal in goals:
        mark = "met" if goal.is_met else "NOT met"
        console.print(f"{goal.name}: wanted {goal.wanted}, found {goal.found}: {mark}")


def shown(figure: Figure) -> str:
    """`median (low to high)`, as far as there is more than one run."""
    if not figure.defined:
        return "undefined"
    text = _number(figure.median)
    if len(figure.defined) > 1:
        text += f" ({_number(figure.low)} to {_number(figure.high)})"
    return text


def found(values: Sequence[float], *, digits: int = 2) -> str:
    """The text of a goal's `found`: median and range; `undefined` without a value."""
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return "undefined"
    low, middle, high = min(kept), statistics.median(kept), max(kept)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
