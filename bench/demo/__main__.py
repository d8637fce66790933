"""`python -m bench.demo [--keep]`: the story, .demo/summary.json, and at the end `demo: OK`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from bench.demo.stage import FOLDER, DemoFailed, Stage, stop_earlier_demo
from bench.demo.story import SCENES
from bench.fixtures.__main__ import make_all, quiet_libraries
from bench.fixtures.base_model import smol_base


def main(arguments: list[str]) -> int:
    """Play; 0 when every promise was kept."""
    console = Console()
    stop_earlier_demo()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    summary: dict[str, Any] = {"seconds": {}}
    quiet_libraries()
    with _timed(console, summary, "base", "the real small base model"):
        base = smol_base()
    stage, is_kept = Stage(base), False
    try:
        # The engine's start and the training share the two cores; both take less so.
        stage.open()
        _play(stage, console, summary)
        is_kept = "--keep" in arguments
    except DemoFailed as failure:
        console.print(f"demo: FAILED: {failure}", style="bold red", markup=False)
        summary["failed"] = str(failure)
        return 1
    finally:
        (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        if not is_kept:
            stage.close()
    _print_end(console, stage, summary, is_kept=is_kept)
    return 0


def _play(stage: Stage, console: Console, summary: dict[str, Any]) -> None:
    with _timed(console, summary, "fixtures", "three tenants' adapters, trained once"):
        make_all(console)
    with _timed(console, summary, "start", "controller and engine"):
        stage.wait_ready()
        console.print(f"ready: controller {stage.controller_url}, engine {stage.engine_url}")
    for name, title, scene in SCENES:
        with _timed(console, summary, name, title):
            summary[name] = scene(stage, console)


@contextmanager
def _timed(console: Console, summary: dict[str, Any], name: str, title: str) -> Iterator[None]:
    console.rule(f"[bold]{title}", align="left")
    started = time.monotonic()
    try:
        yield
    finally:
        summary["seconds"][name] = round(time.monotonic() - started, 1)


def _print_end(console: Console, stage: Stage, summary: dict[str, Any], *, is_kept: bool) -> None:
    console.rule("[bold]summary", align="left")
    verdicts = {tenant: facts["verdict"] for tenant, facts in summary["push"].items()}
    console.print(f"verdicts {verdicts}")
    console.print(f"traffic during the switch {summary['switch']['requests']}")
    console.print(f"evictions counted by the engine {summary['evictions']['evictions']}")
    console.print(f"hot adapters {summary['evictions']['hot_adapters']}")
    console.print(f"seconds {summary['seconds']}, in all {sum(summary['seconds'].values()):.0f}")
    console.print(f"all of it: {FOLDER / 'summary.json'}")
    if is_kept:
        pid = (FOLDER / "up.pid").read_text()
        console.print(f"dashboard {stage.controller_url}/dashboard")
        console.print(f"admin token in {stage.data_dir / 'admin-token'}; stop it all: kill {pid}")
    print("demo: OK", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
