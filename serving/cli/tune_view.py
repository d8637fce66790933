"""What `loraplane tune` shows: the plan before, a progress line meanwhile, the front at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from serving.cli import views
from serving.tuning.conclusion import Conclusion
from serving.tuning.search import Plan, State
from serving.tuning.space import LeftOut
from serving.tuning.tune_report import Forecast, columns, sentences, table_rows
from serving.tuning.tune_task import Prepared
from serving.tuning.tuner import Told

_MOST_SETTINGS = 40


def print_plan(prepared: Prepared, forecast: Forecast, state: State, *, notes: list[str]) -> None:
    """What would be done, and how long it takes."""
    plan, rules = prepared.plan, prepared.plan.rules
    rows = [("start", plan.start.name)]
    if plan.reference is not None:
        rows.append(("reference", plan.reference.name))
    rows += [("candidate", setting.name) for setting in plan.candidates[:_MOST_SETTINGS]]
    if len(plan.candidates) > _MOST_SETTINGS:
        rows.append(("", f"and {len(plan.candidates) - _MOST_SETTINGS} more"))
    views.print_table("settings", ("role", "setting"), rows)
    views.print_pairs(
        {
            "goal": plan.goals.text,
            "load": f"{prepared.shape.name}: {len(prepared.shape.arrivals)} requests in "
            f"{prepared.shape.seconds:.0f} s a round, "
            f"{prepared.shape.offered_tokens_per_second:.0f} tokens/s",
            "rounds": f"{rules.start_rounds} of the start, then {rules.min_rounds} to "
            f"{rules.max_rounds} of a setting, until differences of "
            f"{100 * rules.resolution:g} % are told or too small",
            "settings": f"about {forecast.n_expected} started, at most {forecast.n_most}",
            "expected": _minutes(forecast.expected_seconds),
            "worst": f"{_minutes(forecast.worst_seconds)} (budget {_minutes(plan.budget_seconds)})",
            "done": f"{len(state.rounds)} rounds, {_minutes(state.spent_seconds)}",
        }
    )
    for line in [*notes, *left_out_lines(prepared.left_out)]:
        views.out.print(line, markup=False, highlight=False, soft_wrap=True)


def left_out_lines(left_out: tuple[LeftOut, ...]) -> Iterator[str]:
    """One line a reason, with how many settings it leaves out."""
    counts: dict[str, int] = {}
    for one in left_out:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    for reason, count in counts.items():
        yield f"left out: {count} x {reason}"


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """A line on standard error for as long as the block lasts; nothing where nobody watches."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[budget]}"),
        TimeElapsedColumn(),
        console=views.err,
        transient=True,
    )
    with bars:
        yield ProgressLine(bars)


class ProgressLine:
    """Shows setting, round, stage, and engine time against the budget; a line per round stays."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=1.0, budget="")
        self._n_rounds = -1
        self._n_failed = 0

    def show(self, told: Told, plan: Plan) -> None:
        """Take over what the tuner tells."""
        spent, budget = told.state.spent_seconds / 60, plan.budget_seconds / 60
        if self._n_rounds < 0:
            self._n_rounds, self._n_failed = len(told.state.rounds), len(told.state.failed)
        self.settle(told.state, plan)
        self._bars.update(
            self._task,
            description=f"{told.setting.name}, round {told.number + 1}: {told.stage}",
            completed=told.share,
            budget=f"{spent:.1f} of {budget:g} engine-minutes",
        )

    def settle(self, state: State, plan: Plan) -> None:
        """Print the rounds and failures that are new."""
        for one in state.rounds[max(0, self._n_rounds) :]:
            shown = ", ".join(
                f"{name} {one.values[name]:.4g}"
                for name in (plan.goals.metric, "throughput", "capacity")
                if name in one.values
            )
            views.err.print(
                f"{one.setting.name}, round {one.number + 1}: {shown} ({one.seconds:.0f} s)",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        for setting, reason in list(state.failed.items())[self._n_failed :]:
            views.err.print(
                f"{setting.name} failed: {reason}", markup=False, highlight=False, soft_wrap=True
            )
        self._n_rounds, self._n_failed = len(state.rounds), len(state.failed)


def print_conclusion(
    plan: Plan, state: State, conclusion: Conclusion, *, stop: str, files: dict[str, Any]
) -> None:
    """The outcome, the table with the front marked, and where the files are."""
    for line in sentences(plan, state, conclusion, stop=stop):
        views.out.print(line, markup=False, highlight=False, soft_wrap=True)
    views.print_table(plan.goals.text, columns(plan), table_rows(plan, conclusion))
    views.print_pairs(files)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
