"""`loraplane tenant` and `loraplane key`: who may use what."""

from __future__ import annotations

from typing import Annotated

import typer

from serving.cli import views
from serving.cli.client import Json
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option

tenant_app = typer.Typer(help="Tenants: owners of adapters and keys.", no_args_is_help=True)
key_app = typer.Typer(help="API keys of a tenant.", no_args_is_help=True)

_Tenant = Annotated[str, typer.Argument(metavar="TENANT")]


@tenant_app.command("create")
def create_tenant(
    tenant: _Tenant,
    display_name: Annotated[
        str | None, option("--display-name", help="How people call it.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Create a tenant."""
    body: Json = {"id": tenant}
    if display_name:
        body["display_name"] = display_name
    with connect(url, token) as client:
        created = client.send("POST", "/v1/tenants", body)
    if as_json:
        views.print_json(created)
    else:
        views.out.print(f"tenant {tenant} created")


@key_app.command("create")
def create_key(
    tenant: _Tenant,
    name: Annotated[str, option("--name", help="What the key is for.")] = "default",
    scopes: Annotated[
        str, option("--scopes", help="Comma-separated: inference, base, read, push, promote.")
    ] = "inference,read,push",
    fallback: Annotated[
        str,
        option("--fallback", help="none, or base: the base model answers in an adapter's stead."),
    ] = "none",
    expires_at: Annotated[
        str | None,
        option("--expires-at", help="RFC 3339 time or Unix seconds; never, if left out."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Create an API key; it is shown this once and never again."""
    body: Json = {"name": name, "scopes": [item for item in scopes.split(",") if item]}
    body["fallback"] = fallback
    if expires_at is not None:
        body["expires_at"] = expires_at
    with connect(url, token) as client:
        created = client.send("POST", f"/v1/tenants/{tenant}/keys", body)
    if as_json:
        views.print_json(created)
        return
    views.out.print(f"key id: {created['id']}", highlight=False)
    views.out.print(created["key"], highlight=False, soft_wrap=True)
    views.err.print("Keep it now: only its hash is stored.")


@key_app.command("revoke")
def revoke_key(
    tenant: _Tenant,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Revoke an API key; engines refuse it from the next snapshot on."""
    with connect(url, token) as client:
        client.send("DELETE", f"/v1/tenants/{tenant}/keys/{key_id}")
    views.out.print(f"key {key_id} revoked")
