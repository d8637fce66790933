"""A real Prometheus on a free port: our rules loaded, a test's targets read every second."""

from __future__ import annotations

import contextlib
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

PROMETHEUS = shutil.which("prometheus")
RULES = Path(__file__).parents[2] / "helm" / "loraplane" / "rules"
_READY_SECONDS = 60.0


@dataclass
class Prometheus:
    """A running one."""

    client: httpx.Client

    def _ask(self, path: str, **parameters: Any) -> Any:
        body = self.client.get(f"/api/v1/{path}", params=parameters).json()
        assert body["status"] == "success", f"{parameters}: {body}"
        return body["data"]

    def values(self, expr: str) -> list[float]:
        """Numbers of an instant query now."""
        found = self._ask("query", query=expr)["result"]
        return [float(item["value"][1]) for item in found]

    def has_drawn(self, expr: str, *, since: float) -> bool:
        """Whether a graph from `since` until now has any point that is a number."""
        asked = {"query": expr, "start": since, "end": time.time(), "step": 1}
        series = self._ask("query_range", **asked)["result"]
        return any(math.isfinite(float(value)) for item in series for _, value in item["values"])

    def label_values(self, label: str, metric: str) -> list[str]:
        """As Grafana's label_values(metric, label)."""
        return list(self._ask(f"label/{label}/values", **{"match[]": metric}))

    def targets(self) -> dict[str, str]:
        """Health by job."""
        return {
            target["labels"]["job"]: target["health"]
            for target in self._ask("targets", state="active")["activeTargets"]
        }

    def alerts(self) -> dict[str, str]:
        """Health by alert: `ok` where its expression could be evaluated."""
        groups = self._ask("rules", type="alert")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def firing(self) -> set[str]:
        """Alerts whose condition holds now, whether it has held for long enough or not."""
        return {item["labels"]["alertname"] for item in self._ask("alerts")["alerts"]}


@contextlib.contextmanager
def a_prometheus(folder: Path, targets: dict[str, str], *, token: str = "") -> Iterator[Prometheus]:
    """Scrape `targets` (URLs by job) with this bearer; skips where there is no Prometheus."""
    if PROMETHEUS is None:
        pytest.skip("no prometheus on this machine: apt-get install prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(targets, token)))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False) as client:
            _wait_ready(process, client, folder / "prometheus.log")
            yield Prometheus(client)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _configuration(targets: dict[str, str], token: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "*.yaml")],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [url.removeprefix("http://")]}],
                "authorization": {"credentials": token},
            }
            for job, url in targets.items()
        ],
    }


def _wait_ready(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
