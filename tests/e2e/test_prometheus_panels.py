"""A real Prometheus reads a real controller and a real engine: every panel shows something."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders.grafana_queries import undrawn_panels, variable_queries
from tests.builders.prometheus import a_prometheus
from tests.e2e.conftest import GPU_SLOTS
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.engine
N_ADAPTERS = GPU_SLOTS + 1


def test_every_panel_draws_what_a_real_fleet_tells(
    fleet: Fleet, tenant: str, adapters: list[Path], tmp_path: Path
) -> None:
    key = fleet.tenant(tenant)
    names = [f"{tenant}/a{index}" for index in range(N_ADAPTERS)]
    targets = {"loraplane-controller": fleet.controller_url, "loraplane-engine": fleet.engine_url}
    began = time.time()
    with a_prometheus(tmp_path, targets) as prometheus:
        # While it scrapes: the gate's stages and verdicts are seen to grow.
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fleet.push_live, names, adapters))
        stop = threading.Event()
        traffic = threading.Thread(target=keep_asking, args=(fleet, key, names, stop))
        traffic.start()
        try:
            undrawn = undrawn_panels(prometheus, since=began, seconds=120)
        finally:
            stop.set()
            traffic.join(60)

        assert undrawn == {}
        assert set(prometheus.targets().values()) == {"up"}
        assert set(prometheus.alerts().values()) == {"ok"}
        for label, metric in variable_queries():
            assert prometheus.label_values(label, metric), (label, metric)
        evictions = 'sum(loraplane_adapter_evictions_total{level="slot"})'
        assert prometheus.values(evictions)[0] > 0, "more adapters than slots must evict"
        assert prometheus.values("sum(loraplane_adapter_loads_in_step)") == [0.0]


def keep_asking(fleet: Fleet, key: str, names: list[str], stop: threading.Event) -> None:
    """Each adapter in turn, so that each request needs another slot; and one that is refused."""
    for turn, name in enumerate(itertools.cycle(names)):
        if stop.is_set():
            return
        if turn % 10 == 0:
            assert fleet.ask(key, "absent", "refused").status_code == 404
        fleet.answer(key, name, "Guest", max_tokens=3)
