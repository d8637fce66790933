"""One call of `loraplane tune`: plan or search, then profile, result and report."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from adapters.base_folder import find_base_folder
from adapters.base_model import read_base_model
from adapters.errors import BaseModelError
from serving.cli import tune_options as given
from serving.cli import tune_view, views
from serving.cli.errors import Refused, UsageError_
from serving.engine.profile import EngineProfile, ProfileInvalid, read_profile
from serving.settings import EngineSettings
from serving.tuning.conclusion import Conclusion, conclude
from serving.tuning.engine_rounds import EngineRounds, log_name
from serving.tuning.goals import GoalInvalid
from serving.tuning.journal import JournalError, open_journal, read_events, state_of
from serving.tuning.load_shape import Shape, ShapeSpec
from serving.tuning.machine import describe_machine, installed_versions, is_cpu_build
from serving.tuning.plotly_script import plotly_script
from serving.tuning.profile_file import Provenance, evidence_lines, profile_text
from serving.tuning.round_values import load_of
from serving.tuning.search import State
from serving.tuning.shapes import ShapeInvalid, check_size, left_out_note, read_shape
from serving.tuning.space import default_space
from serving.tuning.tune_page import page
from serving.tuning.tune_report import forecast, plan_json, result_json
from serving.tuning.tune_task import Prepared, Task, prepare, shape_digest, subject_of
from serving.tuning.tuner import Tuner

REPORT, RESULT = "report.html", "result.json"
_NO_MEMORY_SHARE = (
    "gpu_memory_share: not searched; on the CPU platform kv_cache_gib says how much memory the KV "
    "cache has."
)


def read_start(file: Path | None, model: str | None) -> EngineProfile:
    """The profile that the search starts from.

    Raises:
        UsageError_: it cannot be used.
    """
    try:
        return read_profile(EngineSettings.from_environment(profile=file, model=model))
    except ProfileInvalid as exc:
        raise UsageError_(str(exc), fix="All fields: docs/settings.md.") from exc


def read_draw(
    source: str, seed: int, *, rate: float | None, requests: int | None
) -> Callable[[int], Shape]:
    """The load of each round, by its number.

    Raises:
        UsageError_: neither a shape nor a trace, or one without a request.
    """
    try:
        spec = read_shape(source)
    except ShapeInvalid as exc:
        raise UsageError_(str(exc), fix="docs/load.md lists shapes and their fields.") from exc
    if not isinstance(spec, ShapeSpec) and (rate is not None or requests is not None):
        raise UsageError_("A recorded load has its own rate and end: leave out --rate, --requests.")
    if note := left_out_note(spec):
        views.err.print(note, markup=False, highlight=False, soft_wrap=True)
    if isinstance(spec, ShapeSpec):
        spec = spec if rate is None else spec.with_rate(rate)
        if requests is not None:
            spec = dataclasses.replace(spec, requests=requests, seconds=None)
        try:
            check_size(spec)
        except ShapeInvalid as exc:
            raise UsageError_(str(exc), fix="Give --requests.") from exc
    if not spec.draw(seed).arrivals:
        raise UsageError_(f"The shape {source} has no request.", fix="Let it last longer.")
    # Apart, so that neighbouring seeds of a search share no round.
    return lambda number: spec.draw(1000 * seed + number)


class TuneRun:
    """One call of the verb: plan, dry run or search, and its files."""

    def __init__(
        self, task: Task, axes: dict[str, str | None], work: Path, out: Path, as_json: bool
    ) -> None:
        is_cpu = task.profile.kv_cache_gib is not None or is_cpu_build()
        self.task, self.prepared = _prepare(task, axes, is_cpu=is_cpu)
        self.work, self.out, self.as_json = work, out, as_json
        self.machine, self.versions = describe_machine(), installed_versions()
        self.notes = [_NO_MEMORY_SHARE] if is_cpu and not axes["gpu_memory_share"] else []

    def go(self, *, dry_run: bool, retry_failed: bool = False) -> None:
        """Print the plan, or carry it out.

        Raises:
            UsageError_: a record that does not fit, or a place that cannot be written.
            Refused: the start's engine does not run.
            typer.Exit: 1, no setting keeps the bounds.
        """
        try:
            if dry_run:
                self._show_plan()
            else:
                self._search(retry_failed=retry_failed)
        except (BaseModelError, JournalError) as exc:
            raise UsageError_(str(exc)) from exc
        except OSError as exc:
            raise UsageError_(
                f"{exc.filename or self.work}: {exc.strerror or exc}", fix="Name another place."
            ) from exc

    def _show_plan(self) -> None:
        plan, assumed = self.prepared.plan, self.prepared.assumed
        state = state_of(read_events(self.work, lambda: self._subject()[0]), assumed)
        told = forecast(plan, state.costs)
        if self.as_json:
            views.print_json(plan_json(plan, self.prepared.left_out, told, state))
        else:
            tune_view.print_plan(self.prepared, told, state, notes=self.notes)

    def _subject(self) -> tuple[dict[str, Any], str]:
        """(what makes rounds comparable, the base in words)."""
        try:
            card = read_base_model(find_base_folder(self.task.profile.model))
        except BaseModelError as exc:
            raise UsageError_(str(exc), fix="Name a folder or hub id with --model.") from exc
        base = f"{card.name}, revision {card.revision[:16]}"
        subject = subject_of(
            self.task, self.prepared, base=base, machine=self.machine, versions=self.versions,
            environment=os.environ,
        )  # fmt: skip
        return subject, base

    def _search(self, *, retry_failed: bool) -> None:
        subject, base = self._subject()
        plan, assumed = self.prepared.plan, self.prepared.assumed
        with open_journal(self.work, subject) as journal, tune_view.progress_line() as line:
            failed = journal.state(assumed).failed
            # The start always: without it there is no search, and who calls again wants one.
            journal.retry([one for one in failed if retry_failed or one == plan.start])
            rig = EngineRounds(
                self.task.profile, self.task.draw, self.prepared.load.n_adapters,
                self.task.goals.kind, self.work, self.task.seed, self.task.rank,
                self.task.has_capacity,
            )  # fmt: skip
            tuner = Tuner(plan, rig, journal, assumed, lambda told: line.show(told, plan))
            stop = tuner.run().reason
            state = journal.state(assumed)
            line.settle(state, plan)
        self._conclude(state, stop, base)

    def _conclude(self, state: State, stop: str, base: str) -> None:
        plan = self.prepared.plan
        if plan.start in state.failed:
            raise Refused(
                f"The start does not run: {state.failed[plan.start]}",
                fix=f"Its log: {self.work / log_name(plan.start)}. Call again to retry.",
            )
        found = conclude(plan, state)
        provenance = Provenance(
            measured_at=datetime.fromtimestamp(time.time(), tz=UTC).strftime("%Y-%m-%dT%H:%MZ"),
            machine=self.machine,
            versions=self.versions,
            base=base,
            shape=self.prepared.shape.name,
            shape_digest=shape_digest(self.task),
            journal=self.work.name,
        )
        shown = self._write(state, found, provenance, stop)
        if self.as_json:
            views.print_json(shown)
        else:
            files = {"profile": self.out, "report": self.work / REPORT}
            tune_view.print_conclusion(plan, state, found, stop=stop, files=files)
        if not found.row.keeps_bounds:
            raise typer.Exit(1)

    def _write(
        self, state: State, found: Conclusion, provenance: Provenance, stop: str
    ) -> dict[str, Any]:
        plan = self.prepared.plan
        document = result_json(
            plan, state, found, provenance, stop=stop, left_out=self.prepared.left_out
        )
        text = profile_text(self.task.profile, plan, state, found, provenance, stop=stop)
        evidence = evidence_lines(plan, state, found, provenance, stop=stop)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(text)
        (self.work / RESULT).write_text(json.dumps(document, indent=1) + "\n")
        (self.work / REPORT).write_text(
            page(plan, state, found, stop=stop, evidence=evidence, plotly=plotly_script())
        )
        return document


def _prepare(task: Task, axes: dict[str, str | None], *, is_cpu: bool) -> tuple[Task, Prepared]:
    try:
        usual = default_space(task.profile, is_cpu=is_cpu, load=load_of(task.draw(0)))
        task = dataclasses.replace(task, space=given.read_space(axes, usual))
        return task, prepare(task, is_cpu=is_cpu)
    except (GoalInvalid, ProfileInvalid) as exc:
        raise UsageError_(str(exc), fix="See docs/tuning.md.") from exc
