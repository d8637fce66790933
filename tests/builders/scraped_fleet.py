"""A controller without its loop and a fake engine behind the real front door, both to be scraped.

The engine's worker, which the fake lacks, is imitated by `Worker`: facts that grow with every look.
What provokes each metric is in `keep_busy`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from serving.contract import engine_token
from serving.controller.app import create_app
from serving.controller.lifecycle import Verdict
from serving.controller.steps.metrics import GATE_STAGES, StepMetrics, Stopwatch
from serving.engine.ports import AdapterLoads, LoadSeconds, MemoryFacts, WorkerFacts
from serving.engine.series import FinishedRequest
from tests.builders.controller import ADMIN, bearer, form_of, settings_in
from tests.builders.snapshots import SECRET
from tests.fakes import engine_world
from tests.fakes.engine_port import FakeEnginePort
from tests.fakes.front_door import Served, behind_the_door, serving

_NAMES = ("acme/support@1", "beta/sql@1")
METRICS_TOKEN = "scrape"
"""As the front door of the fakes asks for it."""
N_PAST = 150
"""Requests of each adapter in the trace before the traffic: a plan wants a few hundred."""
_KEYS = {"acme-key": "support", "beta-key": "sql", "base-key": "base"}


class Worker(FakeEnginePort):
    """Moves both adapters through its one slot between any two looks."""

    n_looks = 0

    async def observe(self) -> WorkerFacts:
        facts = await super().observe()
        self.n_looks = n = self.n_looks + 1
        moved = AdapterLoads(
            loads_disk=n, loads_cache=n, evictions_slot=n, evictions_cache=n,
            removals=1, failures=1, slot_seconds=n / 10,
        )  # fmt: skip
        return replace(
            facts,
            adapters={**facts.adapters, **dict.fromkeys(_NAMES, moved)},
            load_seconds={
                source: LoadSeconds((0.01, 0.1), (n, n, 1), 0.02 * n)
                for source in ("disk", "cache")
            },
            memory=MemoryFacts(slot_bytes=1 << 20, kv_bytes_per_token=4096, kv_tokens=10_000),
        )


@dataclass
class ScrapedFleet:
    """Where both are, and the objects behind them."""

    controller_url: str
    engine: Served
    app: FastAPI
    steps: StepMetrics

    @property
    def targets(self) -> dict[str, str]:
        """URLs by Prometheus' job."""
        return {"loraplane-controller": self.controller_url, "loraplane-engine": self.engine.url}

    async def keep_busy(self) -> None:
        """Traffic, refusals, verdicts and uploads, and the engine's reports, until cancelled."""
        for _ in range(N_PAST):
            for name in _NAMES:
                with self.engine.world.runtime.tracing.span(name, is_gate=False):
                    pass
        turn = 0
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            while True:
                turn += 1
                await self._ask(client)
                await self._upload(client, turn)
                await self._report(client)
                await self.app.state.capacity.observer.turn()
                self._judge()
                await asyncio.sleep(0.2)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        for key, model in _KEYS.items():
            await client.post(
                f"{self.engine.url}/v1/completions", json={"model": model}, headers=bearer(key)
            )
        for name in _NAMES:
            for outcome in ("stop", "length"):
                request = FinishedRequest(
                    name, 12, 30, ttft_seconds=0.2, e2e_seconds=1.5, outcome=outcome,
                    inter_token_seconds=0.03, slot_wait_seconds=0.02,
                )  # fmt: skip
                self.engine.world.runtime.record_finished(lambda request=request: request)
        await client.post(f"{self.engine.url}/v1/completions", json={"model": "absent"})

    async def _upload(self, client: httpx.AsyncClient, turn: int) -> None:
        await client.post(
            f"{self.controller_url}/v1/tenants/acme/adapters/support/versions",
            files=form_of(f"weights {turn}".encode()),
            headers=bearer(ADMIN),
        )

    async def _report(self, client: httpx.AsyncClient) -> None:
        report = self.engine.world.runtime.report()
        answer = await client.post(
            f"{self.controller_url}/internal/v1/engines/{report.engine_id}/report",
            content=msgspec.json.encode(msgspec.structs.replace(report, url=self.engine.url)),
            headers=bearer(engine_token(SECRET)),
        )
        assert answer.status_code == 204, answer.text

    def _judge(self) -> None:
        watch = Stopwatch(self.steps)
        for stage in GATE_STAGES:
            with watch.stage(stage):
                pass
        for verdict in Verdict:
            self.steps.gate_verdicts.labels(verdict.value).inc()
            self.steps.gate_rechecks.labels(verdict.value).inc()


@contextlib.asynccontextmanager
async def a_scraped_fleet(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ScrapedFleet]:
    """Both running; nothing happens before `keep_busy`."""
    monkeypatch.setattr(engine_world, "FakeEnginePort", Worker)
    app = create_app(settings_in(folder / "controller", cluster_secret=SECRET), has_loop=False)
    steps = StepMetrics(app.state.context.metrics.registry)
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(behind_the_door(folder / "engine"))
        await stack.enter_async_context(app.router.lifespan_context(app))
        url = await stack.enter_async_context(serving(app))
        async with httpx.AsyncClient(trust_env=False) as admin:
            made = await admin.post(f"{url}/v1/tenants", json={"id": "acme"}, headers=bearer(ADMIN))
            assert made.status_code == 201, made.text
        yield ScrapedFleet(url, engine, app, steps)
