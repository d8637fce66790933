"""`loraplane replay`: does a candidate serve a recorded window as it must? A deployment gate."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from serving.cli import replay_options as given
from serving.cli import views
from serving.cli.errors import CliError, Refused, Unavailable, UsageError_
from serving.cli.options import AsJson

if TYPE_CHECKING:
    from serving.engine.profile import EngineProfile
    from serving.tuning.generator import Target
    from serving.tuning.load_shape import Shape
    from serving.tuning.replay import EngineUnanswering, Replay, Replayed, Say
    from serving.tuning.replay_order import Chosen
    from serving.tuning.shapes import ShapeSource
    from serving.tuning.slo import Slos

_AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_MOST_SEEDS = 10**9


def replay(
    window: given.Window,
    profile: given.Candidate = None,
    current: given.Current = None,
    engine_url: given.EngineUrl = None,
    adapter: given.EngineAdapters = None,
    since: given.Since = None,
    until: given.Until = None,
    speed: given.Speed = 1.0,
    slo: given.SloFile = None,
    ttft_p99_ms: given.TtftP99 = None,
    gap_p99_ms: given.GapP99 = None,
    e2e_p99_ms: given.E2eP99 = None,
    max_ttft_ratio: given.MaxTtft = None,
    max_gap_ratio: given.MaxGap = None,
    min_throughput_ratio: given.MinThroughput = None,
    runs: given.NRuns = 3,
    most_runs: given.MostRuns = None,
    rank: given.Rank = 8,
    seed: given.Seed = None,
    work: given.Work = Path("loraplane-replay"),
    report: given.Report = None,
    samples: given.Samples = None,
    as_json: AsJson = False,
) -> None:
    """Replay a window against a candidate profile; exit code 1 unless it passes all goals."""
    from serving.tuning.replay import CANDIDATE, CURRENT, Replay, Side

    if (profile is None) == (engine_url is None):
        raise UsageError_(
            "Which candidate?",
            fix="Give --profile (LORAPLANE_PROFILE) or --engine-url, and not both.",
        )
    shape = _read_window(window, seed or 0, since=since, until=until, speed=speed)
    candidate, theirs = _read_profile(profile), _read_profile(current)
    slos = _choose_goals(
        shape, slo, has_current=current is not None,
        limits={"ttft_p99": ttft_p99_ms, "gap_p99": gap_p99_ms, "e2e_p99": e2e_p99_ms},
        ratios={
            "ttft_p99": max_ttft_ratio, "gap_p99": max_gap_ratio,
            "throughput": min_throughput_ratio,
        },
    )  # fmt: skip
    target = _target(engine_url, adapter or [])
    _check_length(CANDIDATE, candidate, shape)
    _check_length(CURRENT, theirs, shape)
    planned = Replay(
        shape=shape,
        candidate=Side(CANDIDATE, candidate, target),
        current=None if theirs is None else Side(CURRENT, theirs),
        slos=slos,
        order=_choose_order(candidate, theirs, target),
        folder=work,
        runs=runs,
        most_runs=2 * runs if most_runs is None else most_runs,
        rank=rank,
        seed=_seed_of_prompts(seed, is_running=target is not None),
    )
    found = _run(planned, places=(report, samples))
    _show(found, report=report, samples=samples, as_json=as_json)


def _seed_of_prompts(seed: int | None, *, is_running: bool) -> int:
    """One that a running engine has not met: a cached prompt would be answered too fast."""
    if seed is None and is_running:
        return secrets.randbelow(_MOST_SEEDS)
    return seed or 0


def _read_window(
    source: str, seed: int, *, since: str | None, until: str | None, speed: float
) -> Shape:
    from serving.tuning.recorded import TraceInvalid, parse_when, read_recording
    from serving.tuning.shapes import ShapeInvalid, left_out_note, read_shape

    try:
        if source.endswith(".jsonl"):
            first, last = (None if text is None else parse_when(text) for text in (since, until))
            spec: ShapeSource = read_recording([Path(source)], since=first, until=last, speed=speed)
        else:
            spec = read_shape(source)
    except (ShapeInvalid, TraceInvalid, ValueError) as exc:
        raise UsageError_(str(exc), fix="docs/load.md has windows and their forms.") from exc
    if not source.endswith(".jsonl") and (since, until, speed) != (None, None, 1.0):
        raise UsageError_("--since, --until and --speed are for a recorded trace (.jsonl).")
    if note := left_out_note(spec):
        views.err.print(note, **_AS_IT_IS)
    shape = spec.draw(seed)
    if not shape.arrivals:
        raise UsageError_(f"The window {source} has no request.", fix="Draw a longer one.")
    return shape


def _choose_goals(shape: Shape, file: Path | None, **told: Any) -> Slos:
    from serving.tuning.replay_goals import choose_goals
    from serving.tuning.slo import SloInvalid, read_slos

    try:
        return choose_goals(shape, None if file is None else read_slos(file), **told)
    except SloInvalid as exc:
        raise UsageError_(str(exc), fix="docs/replay.md has all goals and their defaults.") from exc


def _read_profile(file: Path | None) -> EngineProfile | None:
    from serving.engine.profile import ProfileInvalid, read_profile
    from serving.settings import EngineSettings

    if file is None:
        return None
    try:
        # The file alone: LORAPLANE_MODEL and others would win over both, and hide a difference.
        return read_profile(EngineSettings(profile=file))
    except ProfileInvalid as exc:
        raise UsageError_(str(exc), fix="All fields: docs/settings.md.") from exc


def _check_length(side: str, profile: EngineProfile | None, shape: Shape) -> None:
    if profile is None or profile.max_model_len is None or shape.longest <= profile.max_model_len:
        return
    raise Refused(
        f"The window's longest request has {shape.longest} tokens, and the {side} "
        f"profile's max_model_len is {profile.max_model_len}: it would be refused.",
        fix="Raise max_model_len, or replay a window without such requests.",
    )


def _target(url: str | None, models: list[str]) -> Target | None:
    from serving.tuning.generator import Model, Target, TargetInvalid

    if url is None:
        if models:
            raise UsageError_("--adapter is of a running engine.", fix="Give --engine-url, too.")
        return None
    pairs = [text.partition("=") for text in models]
    try:
        return Target(url.rstrip("/"), tuple(Model(name, key or None) for name, _, key in pairs))
    except TargetInvalid as exc:
        raise UsageError_(str(exc), fix="Give --adapter NAME=KEY for each adapter.") from exc


def _choose_order(
    candidate: EngineProfile | None, current: EngineProfile | None, target: Target | None
) -> Chosen:
    from adapters.base_folder import find_base_folder
    from adapters.base_model import read_base_model
    from adapters.errors import BaseModelError
    from serving.tuning.machine import accelerators
    from serving.tuning.replay_order import (
        Machine,
        available_bytes,
        choose_order,
        weights_bytes_of,
    )

    sizes, profiles = [], [one for one in (current, candidate) if one is not None]
    try:
        for profile in profiles:
            folder = find_base_folder(profile.model)
            sizes.append(weights_bytes_of(folder, read_base_model(folder), profile.dtype))
    except BaseModelError as exc:
        raise UsageError_(str(exc), fix="The profile's model is a folder or hub id.") from exc
    machine = Machine(available_bytes(), bool(accelerators()))
    return choose_order(profiles, sizes, machine, n_running=int(target is not None))


def _run(planned: Replay, *, places: Iterable[Path | None]) -> Replayed:
    from adapters.errors import BaseModelError
    from serving.engine.profile import ProfileInvalid
    from serving.tuning.generator import TargetInvalid
    from serving.tuning.replay import CURRENT, EngineUnanswering, SideFailed, run_replay
    from serving.tuning.replay_report import plan_sentence

    _make_places(places)
    views.err.print(plan_sentence(planned), **_AS_IT_IS)
    try:
        with _progress() as say:
            return run_replay(planned, say=say)
    except SideFailed as exc:
        # A candidate that does not start is a candidate that fails; of the other one, nothing is
        # known of the candidate.
        kind = Unavailable if exc.side == CURRENT else Refused
        raise kind(f"The {exc.side} engine does not run. {exc}", fix=exc.hint) from exc
    except EngineUnanswering as exc:
        raise _unanswered(exc) from exc
    except (BaseModelError, ProfileInvalid, TargetInvalid) as exc:
        raise UsageError_(str(exc)) from exc
    except OSError as exc:
        raise UsageError_(
            f"{exc.filename or planned.folder}: {exc.strerror or exc}", fix="Name another --work."
        ) from exc


def _unanswered(failure: EngineUnanswering) -> CliError:
    from serving.tuning.replay import CURRENT

    if failure.log is None:
        return Unavailable(
            f"The engine at {failure.url} answered nothing ({failure.reason}).",
            fix="Is it the server's address, without /v1, and does each --adapter NAME=KEY hold?",
        )
    kind = Unavailable if failure.side == CURRENT else Refused
    return kind(
        f"The {failure.side} engine answered nothing of its warm-up ({failure.reason}).",
        fix=f"Its log: {failure.log}",
    )


@contextmanager
def _progress() -> Iterator[Say]:
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=views.err,
        transient=True,
    )
    last = ""

    def show(stage: str, share: float) -> None:
        nonlocal last
        bars.update(task, description=stage, completed=share)
        name = stage.partition(",")[0]
        if name != last and not views.err.is_terminal:
            # A Job's log: who reads it wants to know how far it came.
            views.err.print(name, markup=False, highlight=False, soft_wrap=True)
        last = name

    with bars:
        task = bars.add_task("", total=1.0)
        yield show


def _make_places(paths: Iterable[Path | None]) -> None:
    """What cannot be written is told now, and not after an hour."""
    for path in filter(None, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a").close()
        except OSError as exc:
            raise UsageError_(f"{path}: {exc.strerror}", fix="Name another place.") from exc


def _show(found: Replayed, *, report: Path | None, samples: Path | None, as_json: bool) -> None:
    from adapters.parity.verdict import VerdictKind
    from serving.tuning import replay_report as words

    try:
        if report is not None:
            _write_page(found, report)
        if samples is not None:
            samples.write_text(json.dumps(words.result_json(found, has_samples=True)) + "\n")
    except OSError as exc:
        raise UsageError_(f"{exc.filename}: {exc.strerror}", fix="Name another place.") from exc
    judged = words.judged_of(found)
    if as_json:
        views.print_json(words.result_json(found))
    else:
        views.print_table("Figures, median of the runs", words.FIGURE_COLUMNS,
                          words.figure_rows(found))  # fmt: skip
        views.print_table("Goals", words.COLUMNS, words.goal_rows(judged))
        for line in words.sentences(found):
            views.out.print(line, markup=False, highlight=False, soft_wrap=True)
    if judged.verdict is not VerdictKind.PASS:
        raise typer.Exit(1)


def _write_page(found: Replayed, path: Path) -> None:
    from serving.tuning.plotly_script import plotly_script
    from serving.tuning.replay_page import page

    path.write_text(page(found, plotly=plotly_script()), encoding="utf-8")
