"""Verbs on the running fleet: events, engines."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from serving.cli import views
from serving.cli.client import Json
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option


def events(
    tenant: Annotated[str | None, option("--tenant", help="Only this tenant's.")] = None,
    limit: Annotated[int, option("--limit", help="How many of the newest.")] = 50,
    follow: Annotated[bool, option("--follow", help="Stay and print new ones.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the audit trail: who moved what, when, and why."""
    with connect(url, token) as client:
        if follow:
            for event in client.follow_events(tenant=tenant):
                _print_event(event, as_json=as_json)
            return
        answer = client.fetch("/v1/events", tenant=tenant, limit=limit)
    rows = views.items_of(answer, "events")
    if as_json:
        views.print_json(rows)
        return
    columns = ("at", "actor", "subject", "action", "from", "to", "reason")
    views.print_table("events", columns, [_event_cells(row) for row in rows])


def engines(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List engines: state, revision, slots, versions, and what keeps one from tenants."""
    with connect(url, token) as client:
        rows = views.items_of(client.fetch("/v1/engines"), "engines")
    if as_json:
        views.print_json(rows)
        return
    views.out.print(engines_table(rows))
    for row in rows:
        if row.get("gate"):
            text = f"{row['id']} waits for the gate: {row['gate']['summary']}"
            views.out.print(text, markup=False, highlight=False, soft_wrap=True)


def clear(
    engine: Annotated[str, typer.Argument(metavar="ENGINE")],
    reason: Annotated[str, option("--reason", help="Why; kept in the audit.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Let tenants reach engines of this one's build, base and type without the gate's word."""
    with connect(url, token) as client:
        row = client.send("POST", f"/v1/engines/{engine}/clear", body={"reason": reason})
    if as_json:
        views.print_json(row)
    else:
        views.out.print(f"{engine}: its kind may answer tenants from now on", markup=False)


def engines_table(rows: list[Json]) -> Table:
    """One engine a row."""
    cells = []
    for row in rows:
        report = report_of(row)
        state = row.get("state") or ("ready" if report.get("is_ready") else "not ready")
        versions = report.get("versions") or []
        proven = sum(1 for item in versions if item.get("state") == "proven")
        slots = f"{len(report.get('active') or [])}/{report.get('gpu_slots', '?')}"
        cache = f"{len(report.get('cached') or [])}/{report.get('cpu_slots', '?')}"
        name = row.get("id", report.get("engine_id"))
        cells.append(
            (
                name,
                state,
                report.get("url"),
                report.get("revision"),
                slots,
                cache,
                f"{proven}/{len(versions)}",
                report.get("build"),
            )
        )
    columns = ("engine", "state", "url", "revision", "slots", "cache", "proven", "build")
    return views.make_table("engines", columns, cells)


def report_of(row: Json) -> Json:
    """The engine's own report within an engine as the API shows it."""
    report = row.get("report")
    return report if isinstance(report, dict) else row


def _event_cells(row: Json) -> tuple[Any, ...]:
    subject = row.get("subject") or row.get("version")
    return (
        views.when(row.get("at")), row.get("actor"), subject, row.get("action"),
        row.get("from", row.get("from_state")), row.get("to", row.get("to_state")),
        row.get("reason"),
    )  # fmt: skip


def _print_event(event: Json, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
    else:
        text = " ".join(str(cell) for cell in _event_cells(event) if cell)
        views.out.print(text, markup=False, highlight=False)
