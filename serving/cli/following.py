"""Follow a version on its way to live: what is said of it, as bars with counts and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapters.identity import VersionId
from serving.cli import views
from serving.cli.client import ControllerClient, Json
from serving.cli.errors import TookTooLong
from serving.cli.options import version_path
from serving.cli.remaining import Look, describe, estimate_remaining, read_look

_POLL_SECONDS = 0.5
REFUSED = frozenset({"rejected", "failed", "inconclusive"})
_SETTLED = REFUSED | {"live", "superseded", "retired"}
_STAGES = {
    "uploading": "checks",
    "validating": "checks",
    "evaluating": "gate",
    "staging": "staging on every ready engine",
}


class _Shown(NamedTuple):
    version: Json
    is_over: bool


def follow(
    client: ControllerClient,
    version: VersionId,
    *,
    progress: Progress,
    timeout_seconds: float,
    is_manual: bool = False,
) -> Json:
    """Show a version's way until it is live, refused, or (manual) waiting for `promote`.

    Raises:
        TookTooLong: it is still on its way; that is no refusal.
    """
    deadline = time.monotonic() + timeout_seconds
    bars = StageBars(progress)
    for shown in _looks(client, version, is_manual=is_manual):
        bars.show(shown.version, at_seconds=time.monotonic())
        if shown.is_over:
            break
        if time.monotonic() > deadline:
            raise TookTooLong(what=f"The way of {version} to live", seconds=timeout_seconds)
    bars.finish()
    return shown.version


def _looks(client: ControllerClient, version: VersionId, *, is_manual: bool) -> Iterator[_Shown]:
    """From the controller's stream; where there is none, or it breaks off, by asking again."""
    path = version_path(version)
    for event, data in client.version_events(path):
        yield _Shown(_as_version(data) if event == "progress" else data, event == "end")
    while True:
        shown: Json = client.fetch(path)
        state = shown.get("state")
        yield _Shown(shown, state in _SETTLED or (is_manual and state == "passed"))
        time.sleep(_POLL_SECONDS)


def _as_version(data: Json) -> Json:
    """A progress event in the form of a version: what is said of a stage is its `progress`."""
    places = ("stage", "done", "total", "stages", "index", "reasons")
    progress = {name: data[name] for name in places if data.get(name) is not None}
    return {**{k: v for k, v in data.items() if k not in places}, "progress": progress}


class StageBars:
    """One bar for each stage that a version passes through."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._label = ""
        self._bar: Any = None
        self._looks: list[Look] = []

    def show(self, version: Json, *, at_seconds: float) -> None:
        """Take over what is said of the version at a moment of a clock that only goes on."""
        base = _STAGES.get(str(version.get("state")))
        if base is None:
            return
        at = version.get("progress") or {}
        look = read_look(at_seconds, at)
        self._begin(_label(base, look))
        if base == "gate":
            self._looks.append(look)
        else:
            self._looks.clear()
        note = self._note(look) or "; ".join(views.reasons_of(version))[:80]
        self._progress.update(self._bar, completed=look.done, total=look.total or None, note=note)

    def finish(self) -> None:
        """The present bar is full: its stage is over."""
        if self._bar is not None:
            self._progress.update(self._bar, total=1, completed=1, note="done")
            self._bar = None

    def _begin(self, label: str) -> None:
        if label != self._label or self._bar is None:
            self.finish()
            self._label, self._bar = label, self._progress.add_task(label, total=None, note="")

    def _note(self, look: Look) -> str:
        parts = [f"{look.done}/{look.total}"] if look.total else []
        left = estimate_remaining(self._looks)
        whole, stage = describe(left.all_seconds), describe(left.stage_seconds)
        if whole is not None:
            parts.append(f"{whole} left")
        elif stage is not None:
            parts.append(f"{stage} left in this stage")
        return ", ".join(parts)


def _label(base: str, look: Look) -> str:
    if not look.stage or look.stage == base:
        return base
    stage = look.stage.replace("_", " ")
    if look.index is None:
        return f"{base}: {stage}"
    return f"{base} {look.index + 1}/{len(look.weights)}: {stage}"


def progress_bars(*, hidden: bool) -> Progress:
    """Bars on standard error, so that standard output is the answer alone."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=views.err,
        disable=hidden,
    )
