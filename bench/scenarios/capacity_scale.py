"""10,000 adapters registered, 1,000 of them in use: how long do the capacity pages take?

A real controller on a real registry of that size; two engines that report every two seconds and
answer for their access traces are played by this program, with the product's own wire types. Asked
is each route of the dashboard, again and again while reports come in, then the page itself in a
real browser where one is installed. At last the number of series of both /metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec

from bench.control_plane.process import ADMIN, SECRET, running_controller
from bench.control_plane.registry_rows import adapter_names, register_adapters
from bench.environment import describe_environment
from bench.many_adapters import show
from serving.contract import (
    INTER_TOKEN_BOUNDS_SECONDS,
    TTFT_BOUNDS_SECONDS,
    AdapterCounts,
    EngineMemory,
    EngineReport,
    LoadTimes,
    TraceEvent,
    TraceKind,
    TracePage,
    VersionReport,
    VersionState,
    encode,
    engine_token,
)

_ENGINES, _REPORT_SECONDS = 2, 2.0
_ROUTES = (
    "/v1/capacity",
    "/v1/capacity/plan",
    "/v1/capacity/history",
    "/v1/capacity/adapters?limit=50",
    "/v1/capacity/adapters?limit=50&sort=ttft_p99_seconds&offset=5000",
    "/v1/capacity/adapters?limit=50&search=tenant0420",
    "/v1/engines",
    "/v1/events?limit=30",
    "/metrics",
    "/dashboard",
)


class World:
    """The adapters, and what two engines have seen of them so far."""

    def __init__(self, n_adapters: int, n_active: int, n_events: int) -> None:
        draw = random.Random(7)
        self.names = [f"{tenant}/{adapter}@1" for tenant, adapter in adapter_names(n_adapters)]
        active = draw.sample(self.names, n_active)
        cumulative = list(accumulate(1 / rank for rank in range(1, n_active + 1)))
        now = time.time()
        self.traces: list[list[TraceEvent]] = []
        for engine in range(_ENGINES):
            mine = active[engine::_ENGINES]
            weights = cumulative[: len(mine)]
            asked = draw.choices(mine, cum_weights=weights, k=n_events // _ENGINES)
            pace = 3000.0 / len(asked)
            self.traces.append(
                [
                    TraceEvent(
                        position, now - 3000 + position * pace, TraceKind.ADMITTED, name, position
                    )
                    for position, name in enumerate(asked)
                ]
            )
        self.requests = [Counter(event.adapter for event in trace) for trace in self.traces]
        self.started_at = now - 3600

    def report(self, engine: int, url: str, turn: int) -> EngineReport:
        """What this engine would say now; counts grow by one per active adapter and turn."""
        proven = [
            VersionReport(name, "sha256:" + "0" * 64, VersionState.PROVEN) for name in self.names
        ]
        counted = self.requests[engine]
        counts = [
            AdapterCounts(
                name,
                loads_disk=1 + n // 50,
                loads_cache=1 + n // 10,
                evictions_slot=n // 10,
                evictions_cache=n // 50,
                requests=n + turn,
                prompt_tokens=50 * (n + turn),
                completion_tokens=20 * (n + turn),
                ttft=[n // 2] * len(TTFT_BOUNDS_SECONDS) + [0],
                inter_token=[n // 2] * len(INTER_TOKEN_BOUNDS_SECONDS) + [0],
            )
            for name, n in counted.items()
        ]
        hottest = [name for name, _ in counted.most_common(256)]
        return EngineReport(
            engine_id=f"engine-{engine}",
            url=url,
            build="vllm 0.32.0 / loraplane 0.1.0",
            dtype="bfloat16",
            revision=1,
            is_ready=True,
            started_at=self.started_at,
            gpu_slots=32,
            cpu_slots=256,
            max_rank=16,
            max_model_len=8192,
            versions=proven,
            counts=counts,
            active=hottest[:32],
            cached=hottest,
            hot={"1m": 120, "5m": 300, "1h": len(counted)},
            hot_90={"1m": 60, "5m": 120, "1h": 250},
            load_times={"disk": LoadTimes(500, 60.0), "cache": LoadTimes(5000, 25.0)},
            memory=EngineMemory(41_943_040, 131_072, 400_000),
            trace_position=len(self.traces[engine]),
        )


class _TraceServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, engine_id: str, events: list[TraceEvent]) -> None:
        super().__init__(("127.0.0.1", 0), _TraceHandler)
        self.engine_id, self.events = engine_id, events


class _TraceHandler(BaseHTTPRequestHandler):
    server: _TraceServer

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        after, limit = int(asked.get("after", ["0"])[0]), int(asked.get("limit", ["10000"])[0])
        events = self.server.events[after : after + limit]
        page = TracePage(
            self.server.engine_id, after, after + len(events), len(self.server.events), events
        )
        body = msgspec.json.encode(page)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Quiet."""


def _keep_reporting(
    url: str, world: World, urls: list[str], stop: threading.Event, took: list[float]
) -> None:
    headers = {"Authorization": f"Bearer {engine_token(SECRET)}"}
    turn = 0
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        while not stop.is_set():
            turn += 1
            for engine in range(_ENGINES):
                body = encode(world.report(engine, urls[engine], turn))
                started = time.perf_counter()
                response = client.post(f"/internal/v1/engines/engine-{engine}/report", content=body)
                response.raise_for_status()
                took.append(time.perf_counter() - started)
            stop.wait(_REPORT_SECONDS)


def _time_routes(url: str, token: str, repeats: int) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    rows = []
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        for route in _ROUTES:
            seconds, size = [], 0
            for _ in range(repeats):
                started = time.perf_counter()
                response = client.get(route)
                response.raise_for_status()
                seconds.append(time.perf_counter() - started)
                size = len(response.content)
                time.sleep(0.1)
            row = {
                "route": route,
                "n": repeats,
                "p50_ms": 1000 * statistics.median(seconds),
                "max_ms": 1000 * max(seconds),
                "bytes": size,
            }
            print(
                f"{route:<66} p50 {row['p50_ms']:7.0f} ms  max {row['max_ms']:7.0f} ms "
                f"{size:>9} bytes",
                flush=True,
            )
            rows.append(row)
    return rows


def _time_page(url: str, token: str, repeats: int) -> list[float] | None:
    """Seconds from opening the page to its first filled adapter table; None without a browser."""
    import shutil

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        for _ in range(repeats):
            page = browser.new_context().new_page()
            page.add_init_script(f"sessionStorage.setItem('loraplane-token', '{token}')")
            started = time.perf_counter()
            page.goto(f"{url}/dashboard")
            page.get_by_text("tenant0").first.wait_for(timeout=60_000)
            seconds.append(time.perf_counter() - started)
        browser.close()
    return seconds


def _count_series(url: str) -> int:
    text = httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text
    return sum(not line.startswith("#") for line in text.splitlines())


def _engine_series(world: World) -> int:
    from prometheus_client import CollectorRegistry, generate_latest

    from serving.engine.metrics import EngineMetrics, FinishedRequest

    metrics, registry = EngineMetrics(gpu_slots=32, clock=time.monotonic), CollectorRegistry()
    metrics.register(registry)
    for name in world.names:
        metrics.finished(FinishedRequest(name, 10, 10, 0.1, 0.5, "stop"))
    text = generate_latest(registry).decode()
    return sum(not line.startswith("#") for line in text.splitlines())


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    world = World(options.adapters, options.active, options.events)
    traces = [_TraceServer(f"engine-{n}", events) for n, events in enumerate(world.traces)]
    for server in traces:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [f"http://127.0.0.1:{server.server_address[1]}" for server in traces]
    with running_controller(folder) as controller:
        url, token = controller.url, ADMIN
        register = register_adapters(
            controller.database_url, len(world.names), with_probes=False, n_passed=0
        )
        show(f"registered in {asyncio.run(register):.1f} s")
        stop, took = threading.Event(), list[float]()
        reporter = threading.Thread(
            target=_keep_reporting, args=(url, world, urls, stop, took), daemon=True
        )
        reporter.start()
        time.sleep(options.settle)
        rows = _time_routes(url, token, options.repeats)
        page = _time_page(url, token, 3) if options.browser else None
        n_controller = _count_series(url)
        stop.set()
        reporter.join(60)
    n_engine = _engine_series(world)
    print(f"dashboard page, seconds to its table: {page}")
    print(f"a report of {options.adapters} versions: median {statistics.median(took):.2f} s")
    print(f"series: controller {n_controller}, engine that met all adapters {n_engine}")
    return {
        "rows": rows,
        "page_seconds": page,
        "report_seconds": took,
        "controller_series": n_controller,
        "engine_series": n_engine,
    }


def main() -> None:
    """Print one line per route; everything to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=200_000, help="in the traces, all together")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-browser", dest="browser", action="store_false")
    parser.add_argument("--settle", type=float, default=40.0, help="seconds before the first ask")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        result = _measure(Path(text), options)
    if options.out:
        counts = {"adapters": options.adapters, "active": options.active, "events": options.events}
        document = {"environment": describe_environment(), "options": counts, **result}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
