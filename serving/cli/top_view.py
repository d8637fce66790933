"""What `loraplane top` shows, from the capacity API's answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from serving.cli import views
from serving.cli.client import Json

_MAX_NAMES = 24
"""Slots written out per engine."""


def top_view(capacity: Json, page: Json, history: Json) -> RenderableType:
    """Engines with rates, who is in their slots, and the busiest adapters."""
    engines = capacity["engines"]
    parts: list[RenderableType] = [_engines(engines, history)]
    if capacity["unreachable"]:
        parts.append(Text(f"unreachable: {', '.join(capacity['unreachable'])}", style="red"))
    parts += [_slots(engine) for engine in engines]
    parts.append(_adapters(page))
    parts.append(Text(f"residency: {capacity['residency']['mode']}", style="dim"))
    return Group(*parts)


def rate(series: Sequence[float | None], step_seconds: float) -> float | None:
    """Mean per second over the steps that were sampled; None where none was."""
    known = [value for value in series if value is not None]
    return sum(known) / (len(known) * step_seconds) if known else None


def milliseconds(seconds: float | None) -> str:
    """`120 ms`, or `-` where it is not known."""
    if seconds is None:
        return "-"
    # Below ten, whole milliseconds would show a small cost as none.
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"


def _engines(engines: Sequence[Json], history: Json) -> RenderableType:
    cells = []
    for engine in engines:
        series = history["engines"].get(engine["engine"], {})
        step = history["step_seconds"]
        requests, loads, evictions = (
            _sum(*(rate(series.get(name, ()), step) for name in names))
            for names in (
                ("requests",),
                ("loads_disk", "loads_cache"),
                ("evictions_slot", "evictions_cache"),
            )
        )
        cells.append(
            (
                engine["engine"],
                f"{len(engine['active'])}/{engine['gpu_slots']}",
                f"{len(engine['cached'])}/{engine['cpu_slots']}",
                _shown(requests),
                _shown(loads),
                _shown(evictions),
                _windows(engine["hot"]),
                _windows(engine["hot_90"]),
                len(engine["pinned"]),
            )
        )
    columns = (
        "engine", "slots", "cache", "requests/s", "loads/s", "evictions/s",
        "hot 1m/5m/1h", "90 % 1m/5m/1h", "pinned",
    )  # fmt: skip
    return views.make_table("engines (rates: the last minute)", columns, cells)


def _slots(engine: Json) -> Text:
    pinned = set(engine["pinned"])
    line = Text(f"{engine['engine']} slots: ", style="bold")
    # Most recently used first: that is what a person looks for.
    names = engine["active"][::-1]
    for name in names[:_MAX_NAMES]:
        line.append(name, style="green" if name in pinned else "default")
        line.append("* " if name in pinned else "  ", style="default")
    n_free = engine["gpu_slots"] - len(names)
    more = len(names) - _MAX_NAMES
    if more > 0:
        line.append(f"and {more} more  ", style="dim")
    if n_free > 0:
        line.append(f"{n_free} free", style="dim")
    return line


def _adapters(page: Json) -> RenderableType:
    cells: list[tuple[Any, ...]] = []
    for row in page["adapters"]:
        held = "slot" if row["active_on"] else "cache" if row["cached_on"] else ""
        cells.append(
            (
                row["name"],
                f"{held} (pinned)" if row["is_pinned"] else held,
                row["requests"],
                milliseconds(row["ttft_p50_seconds"]),
                milliseconds(row["ttft_p99_seconds"]),
                row["loads_disk"],
                row["loads_cache"],
                row["evictions_slot"],
                row["evictions_cache"],
                row["verdict"],
            )
        )
    columns = (
        "version", "holds", "requests", "TTFT p50", "TTFT p99", "loads disk", "loads cache",
        "evictions slot", "evictions cache", "verdict",
    )  # fmt: skip
    title = f"busiest {len(cells)} of {page['total']} versions"
    return views.make_table(title, columns, cells)


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _windows(counts: Json) -> str:
    return "/".join(str(counts.get(window, "-")) for window in ("1m", "5m", "1h"))
