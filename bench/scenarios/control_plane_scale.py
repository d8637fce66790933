"""10,000 adapters on 100 engines: what does a promotion cost, and how does the cost grow?

A real controller process with 100, 1,000, 3,000 and 10,000 live adapters, each with the load probe
that the gate leaves, and 100 agents that pull, follow and report over HTTP as engines do (without
engines: what is followed is proven at once). Measured in each run, at each size:

- promotion: from the call until the last of the 100 agents follows the moved alias, that is
  with the first revision, 100 proofs, the switch and the second revision;
- processor time of the controller at rest (100 agents reporting) and for a promotion, its memory;
- bytes of the whole snapshot, and what one agent is sent for a promotion;
- uploads per second against the disk's own limit: the same files, written, synced and renamed;
- growth of the database for a version.

How each cost grows is the exponent of a power law fitted to all runs. Agents and controller share
the machine; what the agents use is told. `--postgres URL` names a PostgreSQL server by one of its
databases: each size has a new database there, which is dropped afterwards, in place of a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from bench.control_plane.database import own_database
from bench.control_plane.fit import fit_power, local_exponent
from bench.control_plane.measured import SizeResult, describe, figures_of, goals_of
from bench.control_plane.process import (
    ADMIN,
    SECRET,
    RunningController,
    cpu_seconds,
    running_controller,
)
from bench.control_plane.registry_rows import adapter_names, register_adapters
from bench.control_plane.uploads import draw_weights, upload_all, write_all
from bench.fixtures.base_model import tiny_base
from bench.many_adapters import show
from bench.result import write_result

QUESTION = (
    "How long until the last of 100 engines follows a promotion, and how do the controller's "
    "costs grow from 100 to 10,000 adapters?"
)
_PAUSE_SECONDS = 0.4
"""Between two promotions: the reports of the last one come in meanwhile."""
_PATIENCE_SECONDS = 60.0
"""A promotion that takes longer is given up, and counted as one of this duration."""

_UPLOADED = ("uploads", "upload rate", "upload rate to disk's limit", "database per upload")


class AgentProcess:
    """The simulated agents: commands down, one JSON line up for each."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """For its processor time."""
        return self._process.pid

    def send(self, **command: Any) -> None:
        """Ask without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(command) + "\n").encode())

    async def expect(self, event: str) -> dict[str, Any]:
        """The next such event; others, of what was given up, are passed over.

        Raises:
            TimeoutError: it did not come.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if told.pop("event") == event:
                    return told
        raise RuntimeError(f"the agents ended before they said {event!r}")

    async def state(self) -> dict[str, Any]:
        """What they have counted."""
        self.send(do="state")
        return await self.expect("state")


@asynccontextmanager
async def _agents(
    controller: RunningController, n: int, *, n_versions: int
) -> AsyncIterator[AgentProcess]:
    """So many, as soon as all of them know of so many versions."""
    arguments = ["--port", controller.url.rpartition(":")[2], "--secret", SECRET, "--n", str(n)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.control_plane.agents", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        agents = AgentProcess(process)
        deadline = time.monotonic() + 2 * _PATIENCE_SECONDS
        while (state := await agents.state())["n_following"] < n or state[
            "n_versions"
        ] < n_versions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the agents follow nothing yet: {state}")
            await asyncio.sleep(0.5)
        yield agents
    finally:
        process.kill()
        await process.wait()


async def _promote(
    client: httpx.AsyncClient, agents: AgentProcess, tenant: str, adapter: str
) -> list[float]:
    """Seconds from the call until the first, the median and the last agent follow."""
    agents.send(do="watch", tenant=tenant, adapter=adapter, number=2)
    await agents.expect("watching")
    started = time.monotonic()
    path = f"/v1/tenants/{tenant}/adapters/{adapter}/versions/2/promote"
    (await client.post(path)).raise_for_status()
    try:
        at = (await agents.expect("followed"))["at"]
    except TimeoutError:
        return 3 * [_PATIENCE_SECONDS]
    return [at[0] - started, at[len(at) // 2] - started, at[-1] - started]


async def _measure_run(
    controller: RunningController,
    agents: AgentProcess,
    turn: list[tuple[str, str]],
    options: argparse.Namespace,
    result: SizeResult,
) -> None:
    before = controller.cpu_seconds()
    started = time.monotonic()
    await asyncio.sleep(options.rest)
    rest_rate = (controller.cpu_seconds() - before) / (time.monotonic() - started)
    seen = await agents.state()
    before, clients = controller.cpu_seconds(), cpu_seconds(agents.pid)
    started = time.monotonic()
    promotions: list[list[float]] = []
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(
        base_url=controller.url, headers=headers, timeout=2 * _PATIENCE_SECONDS, trust_env=False
    ) as client:
        for tenant, adapter in turn:
            if promotions and time.monotonic() - started > options.block:
                break
            promotions.append(await _promote(client, agents, tenant, adapter))
            show(
                f"{result.n} adapters: "
                f"first, median, last agent after {[round(x, 3) for x in promotions[-1]]} s"
            )
            await asyncio.sleep(_PAUSE_SECONDS)
    seconds, n = time.monotonic() - started, len(promotions)
    used = controller.cpu_seconds() - before
    clients = cpu_seconds(agents.pid) - clients
    now = await agents.state()
    result.promotions.append(promotions)
    result.add("CPU at rest", 1000 * rest_rate)
    result.add("CPU per promotion", 1000 * max(0.0, used - rest_rate * seconds) / n)
    result.add("agents' CPU per promotion", 1000 * clients / n)
    result.add("memory", controller.resident_bytes() / 1e6)
    pulled = now["pulled_bytes"] - seen["pulled_bytes"]
    result.add("sent to an agent per promotion", pulled / n / options.agents / 1e3)
    result.add("failed requests", now["n_failures"] - seen["n_failures"])
    await _measure_uploads(controller, options, result)


async def _measure_uploads(
    controller: RunningController, options: argparse.Namespace, result: SizeResult
) -> None:
    weights = draw_weights(options.uploads, options.upload_bytes)
    with tempfile.TemporaryDirectory(dir=controller.folder) as text:
        disk = await write_all(Path(text) / "disk", weights, width=options.width)
    result.add("disk's limit", disk.megabytes_per_second)
    before = await controller.database_bytes()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            taken = await upload_all(controller, weights, width=options.width)
    except TimeoutError:
        for name in _UPLOADED:
            result.add(name, math.nan)
        return
    grown = await controller.database_bytes() - before
    result.add("uploads", taken.versions_per_second)
    result.add("upload rate", taken.megabytes_per_second)
    result.add("upload rate to disk's limit", taken.seconds and disk.seconds / taken.seconds)
    result.add("database per upload", grown / taken.n / 1e3)
    await _until_validated(controller)


async def _until_validated(controller: RunningController) -> None:
    """What was uploaded is checked in the background; the next run shall not pay for it."""
    async with httpx.AsyncClient(base_url=controller.url, timeout=60, trust_env=False) as client:
        for _ in range(240):
            text = (await client.get("/metrics")).text
            waiting = [
                line
                for line in text.splitlines()
                if 'state="validating"' in line and not line.endswith(" 0.0")
            ]
            if not waiting:
                return
            await asyncio.sleep(0.25)


async def _measure_size(n: int, options: argparse.Namespace) -> SizeResult:
    result = SizeResult(n)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        async with own_database(options.postgres) as url:
            with running_controller(
                Path(folder), model=tiny_base(), database_url=url
            ) as controller:
                await _measure_runs(controller, options, result)
    return result


async def _measure_runs(
    controller: RunningController, options: argparse.Namespace, result: SizeResult
) -> None:
    n, n_needed = result.n, options.runs * options.promotions
    names = adapter_names(n)[: min(n, n_needed)]
    per_run = len(names) // options.runs
    empty = await controller.database_bytes()
    await register_adapters(controller.database_url, n, n_passed=len(names))
    result.add("database", (await controller.database_bytes() - empty) / 1e6)
    async with _agents(controller, options.agents, n_versions=n) as agents:
        result.add("whole snapshot", (await agents.state())["sizes"][-1] / 1e3)
        await asyncio.sleep(options.settle)
        for run in range(options.runs):
            show(f"{n} adapters, run {run + 1} of {options.runs}")
            turn = names[run * per_run : (run + 1) * per_run]
            await _measure_run(controller, agents, turn, options, result)


def _print(results: list[SizeResult], console: Console) -> None:
    table = Table(title="control plane at scale (medians of the runs)")
    table.add_column("")
    for result in results:
        table.add_column(f"{result.n} adapters", justify="right")
    table.add_column("exponent (95 %)", justify="right")
    table.add_column("last step", justify="right")
    for name in describe(results):
        points = [(result.n, value) for result in results for value in result.values(name)]
        fit = fit_power(points)
        medians = [(result.n, result.median(name)) for result in results]
        last = local_exponent(*medians[-2:]) if len(medians) > 1 else float("nan")
        cells = [f"{median:.4g}" for _, median in medians]
        table.add_row(name, *cells, str(fit) if fit else "-", f"{last:.2f}")
    console.print(table)


async def _run(options: argparse.Namespace) -> list[SizeResult]:
    results = []
    for n in options.adapters:
        try:
            results.append(await _measure_size(n, options))
        except TimeoutError as error:
            # More adapters would be no faster; what was measured is kept.
            show(f"{n} adapters: given up, {error}")
            break
    return results


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, nargs="+", default=[100, 1000, 3000, 10_000])
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--promotions", type=int, default=12, help="in each run")
    parser.add_argument("--block", type=float, default=30.0, help="no more promotions after, s")
    parser.add_argument("--rest", type=float, default=2.0, help="seconds at rest in each run")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds before the first run")
    parser.add_argument("--uploads", type=int, default=20, help="in each run")
    parser.add_argument("--upload-bytes", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=4, help="uploads at once")
    parser.add_argument("--postgres", help="a server's URL, postgresql+asyncpg://...")
    parser.add_argument("--folder", help="where the data goes; its disk is what is measured")
    parser.add_argument("--variant", default="", help="part of the result file's name")
    parser.add_argument("--quick", action="store_true", help="100 and 1,000 adapters, one run")
    parser.add_argument("--write", action="store_true", help="write the result file")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.promotions, options.uploads = 1, 8, 8
        options.adapters = [n for n in options.adapters if n <= 1000] or options.adapters[:1]
    return options


def main() -> None:
    """Measure all sizes, print the table, write the result when asked to."""
    options = _parse()
    results = asyncio.run(_run(options))
    if not results:
        raise SystemExit("nothing was measured")
    console = Console()
    _print(results, console)
    goals = goals_of(results, n_agents=options.agents)
    for goal in goals:
        mark = "met" if goal.is_met else "NOT met"
        console.print(f"{goal.name}: wanted {goal.wanted}, found {goal.found}: {mark}")
    if options.write:
        asked = {key: value for key, value in vars(options).items() if key != "postgres"}
        path = write_result(
            "control_plane_scale",
            question=QUESTION,
            parameters={**asked, "database": "PostgreSQL" if options.postgres else "SQLite"},
            figures=figures_of(results),
            raw={"promotions_seconds": {str(r.n): r.promotions for r in results}},
            goals=goals,
            variant=options.variant,
        )
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()
