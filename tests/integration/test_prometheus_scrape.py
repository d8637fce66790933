"""A real Prometheus reads a real controller and a fake engine: every panel shows something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.grafana_queries import undrawn_panels, variable_queries
from tests.builders.prometheus import Prometheus, a_prometheus
from tests.builders.scraped_fleet import METRICS_TOKEN, ScrapedFleet, a_scraped_fleet


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScrapedFleet]:
    async with a_scraped_fleet(tmp_path, monkeypatch) as fleet:
        yield fleet


async def test_every_panel_draws_and_every_rule_can_be_evaluated(
    fleet: ScrapedFleet, tmp_path: Path
) -> None:
    began = time.time()
    with a_prometheus(tmp_path / "prometheus", fleet.targets, token=METRICS_TOKEN) as prometheus:
        busy = asyncio.create_task(fleet.keep_busy())
        try:
            undrawn = await asyncio.to_thread(undrawn_panels, prometheus, since=began, seconds=60)
        finally:
            busy.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await busy

        assert undrawn == {}
        await asyncio.to_thread(check_rules_and_variables, prometheus)


def check_rules_and_variables(prometheus: Prometheus) -> None:
    for label, metric in variable_queries():
        assert prometheus.label_values(label, metric), (label, metric)
    assert prometheus.targets() == {"loraplane-controller": "up", "loraplane-engine": "up"}
    alerts = prometheus.alerts()
    assert len(alerts) > 20
    assert set(alerts.values()) == {"ok"}
    # The broken adapter of the fake engine, and nothing that would be about a missing scrape.
    assert "LoraplaneLoadFailures" in prometheus.firing()
    assert not {"LoraplaneControllerMissing", "LoraplaneEnginesMissing"} & prometheus.firing()
