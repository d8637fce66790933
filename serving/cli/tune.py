"""`loraplane tune`: search for the engine settings that serve a load best, on real engines here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from serving.cli import tune_options as given
from serving.cli import tune_view, views
from serving.cli.errors import Refused, UsageError_
from serving.cli.options import AsJson
from serving.cli.processes import ModelOption, ProfileOption
from serving.engine.profile import EngineProfile, ProfileInvalid, read_profile
from serving.settings import EngineSettings
from serving.tuning.conclusion import Conclusion, conclude
from serving.tuning.goals import GoalInvalid
from serving.tuning.journal import JournalError, open_journal, read_events, state_of
from serving.tuning.load_shape import Shape
from serving.tuning.profile_file import Provenance, evidence_lines, profile_text
from serving.tuning.race import Rules
from serving.tuning.search import State
from serving.tuning.shapes import ShapeInvalid, read_shape
from serving.tuning.space import default_space
from serving.tuning.tune_report import forecast, result_json
from serving.tuning.tune_task import Prepared, Task, prepare, shape_digest, subject_of

REPORT, RESULT = "report.html", "result.json"


def tune(
    profile: ProfileOption = None,
    model: ModelOption = None,
    shape: given.Shape = "long-prefill",
    goal: given.Goal = "gap_p99",
    kind: given.Kind = None,
    max_throughput_loss: given.MaxLoss = None,
    gap_p99_ms: given.GapP99 = None,
    ttft_p99_ms: given.TtftP99 = None,
    e2e_p99_ms: given.E2eP99 = None,
    tokens: given.Tokens = None,
    thresholds: given.Thresholds = None,
    seqs: given.Seqs = None,
    slots: given.Slots = None,
    memory_shares: given.MemoryShares = None,
    min_rounds: given.MinRounds = 2,
    max_rounds: given.MaxRounds = 4,
    start_rounds: given.StartRounds = 4,
    budget_minutes: given.Budget = 60.0,
    min_gain: given.MinGain = 0.02,
    reference: given.Reference = True,
    capacity: given.Capacity = True,
    seed: given.Seed = 0,
    rank: given.Rank = 8,
    work: given.Work = Path("loraplane-tune"),
    out: given.Out = Path("tuned-profile.yaml"),
    dry_run: given.DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Search for the engine settings that serve a load best; exit code 1: none keeps the bounds."""
    if max_rounds < min_rounds or start_rounds < min_rounds:
        raise UsageError_("--max-rounds or --start-rounds is below --min-rounds.")
    latencies = {"gap_p99": gap_p99_ms, "ttft_p99": ttft_p99_ms, "e2e_p99": e2e_p99_ms}
    goals = given.read_goals(
        goal, kind, max_loss=max_throughput_loss, has_capacity=capacity, latencies=latencies
    )
    axes = {
        "max_num_batched_tokens": tokens, "long_prefill_token_threshold": thresholds,
        "max_num_seqs": seqs, "gpu_slots": slots, "gpu_memory_share": memory_shares,
    }  # fmt: skip
    task = Task(
        profile=_read_profile(profile, model),
        draw=_read_draw(shape, seed),
        goals=goals,
        rules=Rules(min_rounds, max_rounds, start_rounds),
        has_reference=reference,
        has_capacity=capacity,
        budget_seconds=60 * budget_minutes,
        min_gain=min_gain,
        seed=seed,
        rank=rank,
    )
    _Run(task, axes, work, out, as_json).go(dry_run=dry_run)


def _read_profile(file: Path | None, model: str | None) -> EngineProfile:
    try:
        return read_profile(EngineSettings.from_environment(profile=file, model=model))
    except ProfileInvalid as exc:
        raise UsageError_(str(exc), fix="All fields: docs/settings.md.") from exc


def _read_draw(source: str, seed: int) -> Callable[[int], Shape]:
    try:
        spec = read_shape(source)
    except ShapeInvalid as exc:
        raise UsageError_(str(exc), fix="docs/load.md lists shapes and their fields.") from exc
    # Apart, so that neighbouring seeds of a search share no round.
    return lambda number: spec.draw(1000 * seed + number)


class _Run:
    """One call of the verb: plan, dry run or search, and its files."""

    def __init__(
        self, task: Task, axes: dict[str, str | None], work: Path, out: Path, as_json: bool
    ) -> None:
        from serving.tuning.machine import describe_machine, installed_versions, is_cpu_build

        is_cpu = task.profile.kv_cache_gib is not None or is_cpu_build()
        self.task, self.prepared = _prepare(task, axes, is_cpu=is_cpu)
        self.work, self.out, self.as_json = work, out, as_json
        self.machine, self.versions = describe_machine(), installed_versions()
        self.notes = [_NO_MEMORY_SHARE] if is_cpu and not axes["gpu_memory_share"] else []

    def go(self, *, dry_run: bool) -> None:
        try:
            if dry_run:
                self.show_plan()
            else:
                self.search()
        except JournalError as exc:
            raise UsageError_(str(exc)) from exc
        except OSError as exc:
            raise UsageError_(f"{exc.filename}: {exc.strerror}", fix="Name another place.") from exc

    def show_plan(self) -> None:
        plan, assumed = self.prepared.plan, self.prepared.assumed
        state = state_of(read_events(self.work), assumed)
        told = forecast(plan, state.costs)
        if self.as_json:
            views.print_json(_plan_json(self.prepared, told, state))
        else:
            tune_view.print_plan(self.prepared, told, state, notes=self.notes)

    def search(self) -> None:
        from adapters.base_folder import find_base_folder
        from adapters.base_model import read_base_model
        from adapters.errors import BaseModelError
        from serving.tuning.engine_rounds import EngineRounds
        from serving.tuning.tuner import Tuner

        try:
            card = read_base_model(find_base_folder(self.task.profile.model))
        except BaseModelError as exc:
            raise UsageError_(str(exc), fix="Name a folder or hub id with --model.") from exc
        base = f"{card.name}, revision {card.revision[:16]}"
        subject = subject_of(
            self.task, self.prepared, base=base, machine=self.machine, versions=self.versions
        )
        plan, assumed = self.prepared.plan, self.prepared.assumed
        with open_journal(self.work, subject) as journal, tune_view.progress_line() as line:
            rig = EngineRounds(
                self.task.profile, self.task.draw, self.prepared.load.n_adapters,
                self.task.goals.kind, self.work, self.task.seed, self.task.rank,
                self.task.has_capacity,
            )  # fmt: skip
            tuner = Tuner(plan, rig, journal, assumed, lambda told: line.show(told, plan))
            stop = tuner.run().reason
            state = journal.state(assumed)
            line.settle(state, plan)
        self.conclude(state, stop, base)

    def conclude(self, state: State, stop: str, base: str) -> None:
        plan = self.prepared.plan
        if plan.start in state.failed:
            raise Refused(
                f"The start does not run: {state.failed[plan.start]}",
                fix=f"Its log: {self.work / 'engine' / 'engine.log'}. Remove {self.work} to retry.",
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
        shown = self.write(state, found, provenance, stop)
        if self.as_json:
            views.print_json(shown)
        else:
            files = {"profile": self.out, "report": self.work / REPORT}
            tune_view.print_conclusion(plan, state, found, stop=stop, files=files)
        if not found.row.keeps_bounds:
            raise typer.Exit(1)

    def write(
        self, state: State, found: Conclusion, provenance: Provenance, stop: str
    ) -> dict[str, Any]:
        from serving.tuning.tune_page import page

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
            page(plan, state, found, stop=stop, evidence=evidence, plotly=_plotly())
        )
        return document


_NO_MEMORY_SHARE = (
    "gpu_memory_share: not searched; on the CPU platform kv_cache_gib says how much memory the KV "
    "cache has."
)


def _prepare(task: Task, axes: dict[str, str | None], *, is_cpu: bool) -> tuple[Task, Prepared]:
    import dataclasses

    from serving.tuning.round_values import load_of

    try:
        usual = default_space(task.profile, is_cpu=is_cpu, load=load_of(task.draw(0)))
        task = dataclasses.replace(task, space=given.read_space(axes, usual))
        return task, prepare(task, is_cpu=is_cpu)
    except (GoalInvalid, ProfileInvalid) as exc:
        raise UsageError_(str(exc), fix="See docs/tuning.md.") from exc


def _plan_json(prepared: Prepared, told: Any, state: State) -> dict[str, Any]:
    plan = prepared.plan
    return {
        "goal": plan.goals.text,
        "start": plan.start.to_json(),
        "reference": plan.reference.to_json() if plan.reference else None,
        "candidates": [setting.to_json() for setting in plan.candidates],
        "left_out": [
            {"setting": one.setting.to_json(), "reason": one.reason} for one in prepared.left_out
        ],
        "expected_seconds": round(told.expected_seconds),
        "worst_seconds": round(told.worst_seconds),
        "budget_seconds": plan.budget_seconds,
        "rounds_done": len(state.rounds),
    }


def _plotly() -> str:
    from importlib.metadata import distribution

    path = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
    return path.read_text(encoding="utf-8")
