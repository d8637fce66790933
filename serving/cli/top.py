"""`loraplane top`: who holds which slot, how fast things change, and which adapters are hot."""

from __future__ import annotations

import time
from typing import Annotated

from rich.console import RenderableType
from rich.live import Live

from serving.cli import views
from serving.cli.client import ControllerClient, Json
from serving.cli.fleet import report_of
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option
from serving.cli.top_view import top_view

RATE_SECONDS = 60
"""What the shown rates are means of."""
_COUNTS = ("requests", "loads_disk", "loads_cache", "evictions_slot", "evictions_cache")


def top(
    interval: Annotated[
        float, option("--interval", help="Pause between two refreshes, in seconds.", min=0.1)
    ] = 2.0,
    once: Annotated[bool, option("--once", help="Print one table and stop.")] = False,
    rows: Annotated[
        int, option("--rows", help="How many adapters to list, most requests first.", min=1)
    ] = 15,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show slots, hot sets, rates and the busiest adapters, as the engines count them; live.

    With --json: each version's counts, summed over engines, once.
    """
    with connect(url, token) as client:
        if as_json:
            engines = views.items_of(client.fetch("/v1/engines"), "engines")
            views.print_json(sum_counts(engines))
            return
        if once:
            views.out.print(_look(client, rows))
            return
        try:
            with Live(_look(client, rows), console=views.out, auto_refresh=False) as live:
                while True:
                    time.sleep(interval)
                    live.update(_look(client, rows), refresh=True)
        except KeyboardInterrupt:
            return


def sum_counts(rows: list[Json]) -> dict[str, dict[str, int]]:
    """Adapter version -> the engines' own counts, summed over engines."""
    total: dict[str, dict[str, int]] = {}
    for row in rows:
        for item in report_of(row).get("counts") or []:
            at = total.setdefault(item["name"], dict.fromkeys(_COUNTS, 0))
            for name in _COUNTS:
                at[name] += int(item.get(name, 0))
    return total


def _look(client: ControllerClient, rows: int) -> RenderableType:
    capacity = client.fetch("/v1/capacity")
    page = client.fetch("/v1/capacity/adapters", limit=rows)
    history = client.fetch(
        "/v1/capacity/history", seconds=RATE_SECONDS, points=RATE_SECONDS // 10, adapters=0
    )
    return top_view(capacity, page, history)
