"""Sending tasks to a pipeline, one after the other."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.zoo.bad import BAD
from bench.zoo.good import GOOD
from bench.zoo.outcome import Outcome
from bench.zoo.pipeline import Pipeline
from bench.zoo.rows import Row, Task
from bench.zoo.stock import Stock


def send_all(
    tasks: Iterable[Task],
    *,
    stock: Stock,
    pipeline: Pipeline,
    work: Path,
    on_row: Callable[[Row], None],
    may_start: Callable[[], bool] = lambda: True,
) -> None:
    """Send every task while `may_start` allows; `work` holds the spoiled copy of the moment.

    Raises:
        PipelineStuck: a version reached no end.
    """
    for number, task in zip(itertools.count(), tasks, strict=False):
        if not may_start():
            return
        folder = work / f"{number:04d}"
        started = time.monotonic()
        try:
            outcome = _send(task, f"a{number:04d}", stock=stock, pipeline=pipeline, folder=folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        on_row(Row(task, outcome, time.monotonic() - started))


def _send(task: Task, name: str, *, stock: Stock, pipeline: Pipeline, folder: Path) -> Outcome:
    if not task.is_bad:
        source = stock.good(GOOD[task.kind])
        return pipeline.send(name, source, has_fingerprint=task.has_fingerprint)
    kind = BAD[task.kind]
    made = stock.bad(kind, task.rank, folder)
    return pipeline.send(
        kind.adapter_name or name,
        made,
        has_fingerprint=task.has_fingerprint,
        archive=kind.pack(made) if kind.pack else None,
    )
