"""`python -m bench.zoo`: every bad and good adapter through a real fleet, and the table of it.

Ends with 0 when all went as claimed, 1 when not, 3 when there are tasks left (run it again).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from bench.fixtures.__main__ import quiet_libraries
from bench.fixtures.cache import REPOSITORY
from bench.zoo.fleet import fleet
from bench.zoo.pipeline import Pipeline
from bench.zoo.rows import Row, State, Task, plan
from bench.zoo.run import send_all
from bench.zoo.stock import Stock
from bench.zoo.table import Results, to_json, to_markdown, to_tables

FOLDER = REPOSITORY / ".zoo"
_RESULTS = REPOSITORY / "bench" / "results" / "zoo.json"
_PAGE = REPOSITORY / "docs" / "zoo.md"
_DTYPES = ("float32", "bfloat16")


def main(words: Sequence[str]) -> int:
    """Run what is missing, then print and write the tables."""
    options = _parser().parse_args(words)
    console = Console()
    quiet_libraries()
    if options.fresh:
        (FOLDER / f"state-{options.base}.jsonl").unlink(missing_ok=True)
    state = State(FOLDER / f"state-{options.base}.jsonl")
    tasks = plan(options.base, options.dtype, kinds=options.kind)
    if options.again:
        done = [row for row in state.rows.values() if row.complaint]
        for row in done:
            del state.rows[row.task.key]
    deadline = time.monotonic() + options.seconds
    for dtype in options.dtype:
        missing = state.missing(task for task in tasks if task.dtype == dtype)
        if missing and time.monotonic() < deadline:
            _run(missing, state, console, deadline=deadline)
    return _finish(state, tasks, console, is_written=options.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.zoo", description=__doc__)
    parser.add_argument("--base", choices=("smol", "tiny"), default="smol")
    parser.add_argument("--dtype", choices=_DTYPES, nargs="+", default=list(_DTYPES))
    parser.add_argument("--kind", nargs="+", default=[], help="only these kinds")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no task after these")
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    parser.add_argument("--again", action="store_true", help="repeat what was not as claimed")
    parser.add_argument("--write", action="store_true", help="write bench/results and docs/zoo.md")
    return parser


def _run(tasks: list[Task], state: State, console: Console, *, deadline: float) -> None:
    stock = Stock(tasks[0].base)
    work = FOLDER / "work"
    shutil.rmtree(work, ignore_errors=True)

    def on_row(row: Row) -> None:
        state.add(row)
        mark = f"[red]{escape(row.complaint)}[/red]" if row.complaint else row.outcome.place.value
        console.print(f"{row.seconds:6.1f} s  {row.task.key}  {row.outcome.state}  {mark}")

    try:
        with fleet(stock.base, tasks[0].dtype, work / "fleet") as (url, token):
            pipeline = Pipeline(url, token, "zoo")
            pipeline.open()
            send_all(
                tasks,
                stock=stock,
                pipeline=pipeline,
                work=work / "spoiled",
                on_row=on_row,
                may_start=lambda: time.monotonic() < deadline,
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(state: State, tasks: Sequence[Task], console: Console, *, is_written: bool) -> int:
    rows = [state.rows[task.key] for task in tasks if task.key in state.rows]
    results = Results(rows)
    for table in to_tables(results):
        console.print(table)
    n_left = len(tasks) - len(rows)
    console.print(f"{len(rows)} rows, {n_left} left, {len(results.complaints)} not as claimed")
    for complaint in results.complaints:
        console.print(f"- {complaint}", style="red", markup=False)
    if is_written:
        about = {"measured": results.measured, "written_at": datetime.now(UTC).isoformat()}
        _RESULTS.write_text(to_json(results, about=about))
        _PAGE.write_text(to_markdown(results))
    if results.complaints:
        return 1
    return 3 if n_left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
