"""`loraplane load`: offer a load to any server that speaks OpenAI's API, and show its latencies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from serving.cli import load_options as given
from serving.cli import views
from serving.cli.errors import LoadUnanswered, Unavailable, UsageError_
from serving.cli.options import AsJson
from serving.cli.replay_options import E2eP99, GapP99, Since, SloFile, Speed, TtftP99, Until

if TYPE_CHECKING:
    from serving.tuning.generator import Model, Target
    from serving.tuning.generator import Progress as Sofar
    from serving.tuning.load_shape import Shape, ShapeSpec
    from serving.tuning.measure import LoadResult
    from serving.tuning.recorded import Recording
    from serving.tuning.slo import Slos

_MOST_ERRORS = 5
_AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_FIX = "docs/load.md lists shapes and their fields."


def load(
    url: given.ServerUrl,
    shape: given.ShapeSource = "poisson",
    adapter: given.Models = None,
    key: given.Key = None,
    rate: given.Rate = None,
    requests: given.Requests = None,
    seconds: given.Seconds = None,
    since: Since = None,
    until: Until = None,
    speed: Speed = 1.0,
    seed: given.Seed = 0,
    words: given.Words = False,
    chat: given.Chat = False,
    ignore_eos: given.IgnoreEos = True,
    vocabulary: given.Vocabulary = 1000,
    timeout: given.Timeout = 300.0,
    slo: SloFile = None,
    ttft_p99_ms: TtftP99 = None,
    gap_p99_ms: GapP99 = None,
    e2e_p99_ms: E2eP99 = None,
    out: given.Out = None,
    as_json: AsJson = False,
) -> None:
    """Offer a load to a server and show its latencies; exit code 1: a goal not kept, no answer."""
    window = _Window(since, until, speed)
    drawn = _draw(shape, seed, window, rate=rate, requests=requests, seconds=seconds)
    goals = _goals(drawn, slo, {"ttft_p99": ttft_p99_ms, "gap_p99": gap_p99_ms,
                                "e2e_p99": e2e_p99_ms})  # fmt: skip
    target = _target(
        url,
        _models(url, adapter, key),
        prompts="words" if words or chat else "tokens",
        api="chat" if chat else "completions",
        ignore_eos=ignore_eos,
        vocabulary=vocabulary,
        timeout_seconds=timeout,
    )
    if out is not None:
        _write(out, "")  # Now, not after an hour of load.
    result = _run(target, drawn, seed)
    is_kept = _show(result, drawn, goals, as_json=as_json)
    if out is not None:
        _write(out, _document(result, drawn, seed))
    if not any(sample.status for sample in result.samples):
        raise LoadUnanswered(url=url, reason=str(result.samples[0].error))
    if not is_kept or not result.answered:
        raise typer.Exit(1)


@dataclasses.dataclass(frozen=True)
class _Window:
    """What of a recorded trace is offered, and how fast."""

    since: str | None
    until: str | None
    speed: float

    def read(self, trace: Path) -> Recording:
        """The requests in it.

        Raises:
            TraceInvalid, ValueError: a trace, or a moment, that cannot be read.
        """
        from serving.tuning.recorded import parse_when, read_recording

        since, until = (
            None if text is None else parse_when(text) for text in (self.since, self.until)
        )
        return read_recording([trace], since=since, until=until, speed=self.speed)


def _draw(source: str, seed: int, window: _Window, **changes: float | None) -> Shape:
    from serving.tuning.load_shape import ShapeSpec
    from serving.tuning.recorded import TraceInvalid
    from serving.tuning.shapes import ShapeInvalid, left_out_note, read_shape

    try:
        spec = window.read(Path(source)) if source.endswith(".jsonl") else read_shape(source)
    except (ShapeInvalid, TraceInvalid, ValueError) as exc:
        raise UsageError_(str(exc), fix=_FIX) from exc
    if window != _Window(None, None, 1.0) and not source.endswith(".jsonl"):
        raise UsageError_("--since, --until and --speed are for a recorded trace (.jsonl).")
    wanted = {name: value for name, value in changes.items() if value is not None}
    if isinstance(spec, ShapeSpec):
        spec = _changed(spec, **wanted)
    elif wanted:
        raise UsageError_(
            "A recorded load has its own rate and end.",
            fix="Use --speed, --since and --until; docs/load.md has their YAML form.",
        )
    if note := left_out_note(spec):
        views.err.print(note, **_AS_IT_IS)
    drawn = spec.draw(seed)
    if not drawn.arrivals:
        raise UsageError_(f"The shape {source} has no request.", fix="Let it last longer.")
    return drawn


def _changed(spec: ShapeSpec, **changes: Any) -> ShapeSpec:
    from serving.tuning.shapes import ShapeInvalid, check_size

    rate = changes.pop("rate", None)
    spec = spec if rate is None else spec.with_rate(rate)
    if changes:
        # A given end takes the place of the spec's: ten minutes are not cut short at 60 requests.
        spec = dataclasses.replace(spec, **{"requests": None, "seconds": None, **changes})
    try:
        return check_size(spec)
    except ShapeInvalid as exc:
        raise UsageError_(str(exc)) from exc


def _goals(shape: Shape, file: Path | None, limits: dict[str, Any]) -> Slos | None:
    from serving.tuning.replay_goals import choose_goals
    from serving.tuning.slo import SloInvalid, read_slos

    if file is None and not any(limits.values()):
        return None
    try:
        goals = None if file is None else read_slos(file)
        return choose_goals(shape, goals, has_current=False, limits=limits, ratios={})
    except SloInvalid as exc:
        raise UsageError_(str(exc), fix="docs/replay.md has all goals.") from exc


def _models(url: str, named: list[str] | None, key: str | None) -> tuple[Model, ...]:
    from serving.tuning.generator import Model

    if named:
        pairs = [text.partition("=") for text in named]
        return tuple(Model(name, own or key) for name, _, own in pairs)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        # As the load itself, straight to the server.
        response = httpx.get(
            f"{url.rstrip('/')}/v1/models", headers=headers, timeout=10, trust_env=False
        )
        response.raise_for_status()
        return tuple(Model(str(one["id"]), key) for one in response.json()["data"])
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(
            f"{url}/v1/models does not answer ({exc}).", fix="Name the models with --adapter."
        ) from exc
    except UnicodeEncodeError as exc:
        raise UsageError_("The --key has characters that no header takes.") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError_(
            f"{url}/v1/models lists no models.", fix="Name them with --adapter."
        ) from exc


def _target(url: str, models: tuple[Model, ...], **choices: Any) -> Target:
    from serving.tuning.generator import Target, TargetInvalid

    try:
        return Target(url.rstrip("/"), models, **choices)
    except TargetInvalid as exc:
        raise UsageError_(str(exc)) from exc


def _run(target: Target, shape: Shape, seed: int) -> LoadResult:
    from serving.tuning.generator import TargetInvalid, run_load

    try:
        with _progress(len(shape.arrivals)) as on_progress:
            return asyncio.run(run_load(target, shape, on_progress=on_progress, seed=seed))
    except TargetInvalid as exc:
        raise UsageError_(str(exc), fix="Give --adapter once for each.") from exc


@contextmanager
def _progress(n_requests: int) -> Iterator[Callable[[Sofar], None]]:
    bars = Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=views.err,
        transient=True,
    )
    with bars:
        task = bars.add_task("", total=n_requests)

        def show(sofar: Sofar) -> None:
            failed = f", [red]{sofar.n_failed} failed[/red]" if sofar.n_failed else ""
            text = f"answered, {sofar.n_in_flight} in flight{failed}"
            bars.update(task, completed=sofar.n_done, description=text)

        yield show


def _show(result: LoadResult, shape: Shape, slos: Slos | None, *, as_json: bool) -> bool:
    """Whether all goals were kept."""
    from serving.tuning import load_summary as words
    from serving.tuning.round_values import values_of

    judged = {
        goal.text: goal.excess(values_of(result, None, kind=goal.kind), None) <= 0
        for goal in (slos.goals if slos else ())
    }
    if slos is not None:
        most = slos.max_failed_ratio
        judged[f"failed requests at most {100 * most:g} %"] = result.failed_ratio <= most
    if as_json:
        views.print_json({"shape": shape.name, **words.summary_json(result), "goals": judged})
    else:
        views.print_table(shape.name, words.COLUMNS, words.rows(result))
        for error, n in words.errors_of(result)[:_MOST_ERRORS]:
            views.err.print(f"{n} failed: {error}", **_AS_IT_IS)
        for goal, is_kept in judged.items():
            views.out.print(f"{'kept' if is_kept else 'not kept'}: {goal}", **_AS_IT_IS)
    warning = words.lag_warning(result)
    if warning:
        views.err.print(f"warning: {warning}", **_AS_IT_IS)
    return all(judged.values())


def _document(result: LoadResult, shape: Shape, seed: int) -> str:
    from serving.tuning.load_summary import summary_json

    document = {"shape": shape.name, "seed": seed, **summary_json(result), **result.to_json()}
    return json.dumps(document) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as exc:
        raise UsageError_(
            f"{path} cannot be written: {exc.strerror}", fix="Name another --out."
        ) from exc
