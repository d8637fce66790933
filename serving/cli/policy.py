"""`loraplane policy`: what the gate asks of an adapter, and which scope says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli import views
from serving.cli.client import Json
from serving.cli.errors import UsageError_
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option, read_adapter

policy_app = typer.Typer(
    help="Gate policies of the fleet, a tenant or an adapter.", no_args_is_help=True
)

_MEDIA_TYPES = {".json": "application/json"}


@policy_app.command("show")
def show_policy(
    scope: Annotated[str | None, typer.Argument(metavar="[TENANT[/ADAPTER]]")] = None,
    number: Annotated[
        int | None, option("--number", help="An old policy of this scope.", min=1)
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show what the gate asks, field by field, and where each value comes from."""
    with connect(url, token) as client:
        shown: Json = client.fetch(_path_of(scope), number=number)
    if as_json:
        views.print_json(shown)
        return
    if number is not None:
        views.print_pairs({"policy": f"{shown['key']} number {shown['number']}"})
        rows = [(name, value, "") for name, value in _flat(shown["content"])]
    else:
        sources = shown["sources"]
        rows = [(name, v, _source(sources.get(name))) for name, v in _flat(shown["policy"])]
    views.print_table(shown["key"], ("field", "value", "from"), rows)


@policy_app.command("set")
def set_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    tenant: Annotated[
        str | None, option("--tenant", help="Whose policy; the fleet's, if left out.")
    ] = None,
    adapter: Annotated[
        str | None, option("--adapter", help="Which of the tenant's adapters; all, if left out.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Replace one scope's policy with the fields of a YAML or JSON file."""
    if adapter and not tenant:
        raise UsageError_("--adapter needs --tenant.", fix="Name the adapter's tenant too.")
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise UsageError_(f"{file} cannot be read: {exc.strerror}", fix="Name a file.") from exc
    path = _path_of(f"{tenant}/{adapter}" if adapter else tenant)
    media_type = _MEDIA_TYPES.get(file.suffix, "application/yaml")
    with connect(url, token) as client:
        shown: Json = client.put_content(path, content, media_type=media_type)
    if as_json:
        views.print_json(shown)
    else:
        views.out.print(f"{shown['key']}: number {shown['number']} is in force", highlight=False)


def _path_of(scope: str | None) -> str:
    if not scope:
        return "/v1/policy"
    if "/" not in scope:
        return f"/v1/tenants/{scope}/policy"
    tenant, adapter = read_adapter(scope)
    return f"/v1/tenants/{tenant}/adapters/{adapter}/policy"


def _flat(content: Json, prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in content.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _source(source: Json | None) -> str:
    if source is None:
        return ""
    number = source["number"]
    return str(source["scope"]) + ("" if number is None else f" number {number}")
