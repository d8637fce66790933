"""What Grafana would ask Prometheus for our dashboards, with its variables filled in."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from tests.builders.prometheus import Prometheus

DASHBOARDS = Path(__file__).parents[2] / "helm" / "loraplane" / "dashboards"
_FILLED = {
    "$__rate_interval": "10s",
    "$__interval": "5s",
    "$__range": "30s",
    "$engine": ".*",
    "$tenant": ".*",
    "$adapter": ".*",
    # A test has no two hours to look back on.
    "$ago": "1s",
}


def panel_queries() -> dict[str, str]:
    """Expression by `page / panel / letter`."""
    found = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                key = f"{path.stem} / {panel['title']} / {target['refId']}"
                found[key] = filled(target["expr"])
    return found


def filled(expr: str) -> str:
    """The expression with every variable's value."""
    for name, value in _FILLED.items():
        expr = re.sub(re.escape(name) + r"\b", value, expr)
    return expr


def variable_queries() -> set[tuple[str, str]]:
    """(label, metric) of each drop-down."""
    found = set()
    for path in DASHBOARDS.glob("*.json"):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((.*), (\w+)\)", variable["definition"]
                ).groups()  # type: ignore[union-attr]
                found.add((label, filled(metric)))
    return found


def undrawn_panels(prometheus: Prometheus, *, since: float, seconds: float) -> dict[str, str]:
    """Queries without a number in a graph from `since` on; waits at most so long for the last."""
    left = panel_queries()
    deadline = time.monotonic() + seconds
    while left:
        left = {
            key: expr for key, expr in left.items() if not prometheus.has_drawn(expr, since=since)
        }
        if time.monotonic() > deadline:
            break
        time.sleep(0.3)
    return left
