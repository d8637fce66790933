"""Verbs on adapters and their versions: ls, show, report, promote, rollback, retire."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli import views
from serving.cli.client import ControllerClient, Json
from serving.cli.following import follow, progress_bars
from serving.cli.options import (
    DEFAULT_URL,
    AdapterArgument,
    AsJson,
    Token,
    Url,
    VersionArgument,
    connect,
    option,
    read_adapter,
    read_version,
    version_path,
)
from serving.cli.report_view import print_report


def ls(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List adapters with their live version; of one tenant, or of all."""
    with connect(url, token) as client:
        tenants = [tenant] if tenant else _tenant_ids(client)
        adapters = [row for each in tenants for row in _adapters(client, each)]
    if as_json:
        views.print_json(adapters)
        return
    rows = [
        (f"{row['tenant']}/{row.get('adapter', row.get('name'))}", _live(row), _states(row))
        for row in adapters
    ]
    views.print_table("adapters", ("adapter", "live", "versions"), rows)


def show(
    version: VersionArgument, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Show one version: state, verdict, findings, progress."""
    identity = read_version(version)
    with connect(url, token) as client:
        shown: Json = client.fetch(version_path(identity))
    if as_json:
        views.print_json(shown)
        return
    names = ("state", "verdict", "digest", "rank", "size_bytes", "suite", "attempt")
    facts = {name: shown[name] for name in names if shown.get(name) is not None}
    views.print_pairs({"version": identity, **facts})
    for reason in [*views.reasons_of(shown), *views.standing_of(shown)]:
        views.out.print(f"- {reason}", markup=False)
    views.print_findings(shown.get("findings") or ())


def report(
    version: VersionArgument,
    html: Annotated[
        Path | None, option("--html", help="Write the HTML report to this file.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the gate's report of one version: verdict, reasons, segments; or write it as a page."""
    path = version_path(read_version(version))
    with connect(url, token) as client:
        if html is not None:
            html.write_text(client.report_html(path), encoding="utf-8")
            views.out.print(f"wrote {html.resolve()}", markup=False, soft_wrap=True)
            return
        shown: Json = client.fetch(f"{path}/report")
    if as_json:
        views.print_json(shown)
        return
    print_report(shown)
    views.err.print("All of it, case by case: --json, or --html FILE.")


def promote(
    version: VersionArgument,
    override_reason: Annotated[
        str | None,
        option("--override-reason", help="Why a version without PASS may go live; it is audited."),
    ] = None,
    wait: Annotated[bool, option("--wait/--no-wait", help="Follow it until it is live.")] = False,
    timeout: Annotated[float, option("--timeout", help="Longest wait, in seconds.")] = 600.0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Move the adapter's alias to a version, once every ready engine has proven it."""
    identity = read_version(version)
    body: Json = {"override_reason": override_reason} if override_reason else {}
    with connect(url, token) as client, progress_bars(hidden=as_json) as progress:
        moved: Json = client.send("POST", version_path(identity) + "/promote", body)
        if wait:
            moved = follow(client, identity, progress=progress, timeout_seconds=timeout)
    _print_moved(moved, as_json=as_json)


def rollback(
    adapter: AdapterArgument, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Move the adapter's alias back to its previous version; nothing is loaded for it."""
    tenant, name = read_adapter(adapter)
    path = f"/v1/tenants/{tenant}/adapters/{name}/rollback"
    _move(path, {}, as_json, connect(url, token))


def retire(
    version: VersionArgument, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Forbid new use of a version; engines remove it when its last request is over."""
    _move(version_path(read_version(version)) + "/retire", {}, as_json, connect(url, token))


def _move(path: str, body: Json, as_json: bool, client: ControllerClient) -> None:
    with client:
        moved: Json = client.send("POST", path, body) or {}
    _print_moved(moved, as_json=as_json)


def _print_moved(moved: Json, *, as_json: bool) -> None:
    if as_json:
        views.print_json(moved)
    else:
        views.out.print(f"{views.version_name(moved)}: {moved.get('state', 'done')}")


def _tenant_ids(client: ControllerClient) -> list[str]:
    return [row["id"] for row in views.items_of(client.fetch("/v1/tenants"), "tenants")]


def _adapters(client: ControllerClient, tenant: str) -> list[Json]:
    rows = views.items_of(client.fetch(f"/v1/tenants/{tenant}/adapters"), "adapters")
    return [{"tenant": tenant, **row} for row in rows]


def _live(row: Json) -> Any:
    number = row.get("live", row.get("live_version"))
    return f"@{number}" if number else "none"


def _states(row: Json) -> str:
    versions = row.get("versions") or []
    if not isinstance(versions, list):
        return str(versions)
    return ", ".join(
        f"@{item.get('version', item.get('number'))} {item.get('state')}" for item in versions
    )
