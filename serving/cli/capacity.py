"""`loraplane capacity`: how many slots are needed; residency on and off; traces."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serving.cli import views
from serving.cli.capacity_view import print_plan
from serving.cli.client import Json
from serving.cli.errors import UsageError_
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option

capacity_app = typer.Typer(invoke_without_command=True)


class Window(StrEnum):
    """How far back to look."""

    FIVE_MINUTES = "5m"
    HOUR = "1h"
    DAY = "24h"


class Mode(StrEnum):
    """Whether hot adapters are kept in their slots on purpose."""

    AUTO = "auto"
    OFF = "off"


@capacity_app.callback()
def capacity(
    context: typer.Context,
    target_miss_ratio: Annotated[
        float | None,
        option(
            "--target-miss-ratio",
            help="Share of requests that may find their adapter in no slot (0.05 if no target).",
        ),
    ] = None,
    target_added_ms: Annotated[
        float | None,
        option("--target-added-ms", help="Mean milliseconds that loads may add to a request."),
    ] = None,
    window: Annotated[
        Window, option("--window", help="Requests of the last 5m, 1h or 24h.")
    ] = Window.HOUR,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the miss-ratio curve, and the slots that a goal needs; exit code 1: none reach it."""
    if context.invoked_subcommand is not None:
        return
    added_seconds = None if target_added_ms is None else target_added_ms / 1000
    with connect(url, token) as client:
        plan: Json = client.fetch(
            "/v1/capacity/plan",
            target_miss_ratio=target_miss_ratio,
            target_added_seconds=added_seconds,
            window=window.value,
        )
        curve: Json | None = client.fetch("/v1/capacity", window=window.value)["fleet"]
    if as_json:
        views.print_json({"plan": plan, "curve": curve})
    else:
        print_plan(plan, curve, window=window.value)
    if plan["is_reachable"] is False:
        raise typer.Exit(1)


@capacity_app.command("residency")
def set_residency(
    mode: Annotated[Mode, typer.Argument(help="auto or off.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Keep hot adapters in their slots on purpose (auto), or leave all to LRU (off)."""
    with connect(url, token) as client:
        shown: Json = client.send("PUT", "/v1/capacity/residency", {"mode": mode.value})
    if as_json:
        views.print_json(shown)
    else:
        views.out.print(f"residency: {shown['mode']}", highlight=False)


@capacity_app.command("trace")
def save_trace(
    engine: Annotated[str, typer.Argument(metavar="ENGINE")],
    out: Annotated[Path, option("--out", help="File to write, one event a line (JSON).")],
    after: Annotated[
        int, option("--after", help="First position wanted; 0: all that is left.", min=0)
    ] = 0,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Save an engine's access trace: times, adapters and token counts; no content."""
    with connect(url, token) as client:
        try:
            size = client.download(f"/v1/engines/{engine}/trace", out, after=after)
        except OSError as exc:
            raise UsageError_(
                f"{out} cannot be written: {exc.strerror}", fix="Name another --out."
            ) from exc
    views.out.print(f"{out}: {size} bytes", highlight=False)
