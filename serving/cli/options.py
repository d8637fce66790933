"""Options that several verbs share, and what they resolve to.

Every option has the environment variable `LORAPLANE_<OPTION>`; `option` sees to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.errors import NameError_
from adapters.identity import (
    AdapterName,
    TenantId,
    VersionId,
    parse_adapter_name,
    parse_tenant_id,
    parse_version_id,
)
from serving.cli.client import ControllerClient
from serving.cli.errors import UsageError_

DEFAULT_URL = "http://127.0.0.1:8400"


def option(*names: str, help: str, **kwargs: Any) -> Any:
    """A typer option that can also be set by `LORAPLANE_<OPTION>`."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "LORAPLANE_" + long.removeprefix("--").replace("-", "_").upper()
    return typer.Option(*names, help=help, envvar=variable, **kwargs)


Url = Annotated[str, option("--url", help="Where the controller is.")]
Token = Annotated[
    str | None,
    option(
        "--token",
        help="Admin token or API key (default: the admin token in the local data folder).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, option("--json", help="Print JSON instead of a table.")]
VersionArgument = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER@N")]
AdapterArgument = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER")]


def connect(url: str, token: str | None) -> ControllerClient:
    """A client for the given address, with the local admin token when none is given."""
    return ControllerClient(url, token or _local_admin_token())


def _local_admin_token() -> str | None:
    folder = Path(os.environ.get("LORAPLANE_DATA_DIR") or "loraplane-data")
    try:
        return (folder / "admin-token").read_text().strip()
    except OSError:
        return None


def read_version(text: str) -> VersionId:
    """`acme/support@3`.

    Raises:
        UsageError_: another form.
    """
    try:
        return parse_version_id(text)
    except NameError_ as exc:
        raise UsageError_(str(exc), fix="Write it as acme/support@3.") from exc


def read_adapter(text: str) -> tuple[TenantId, AdapterName]:
    """`acme/support`.

    Raises:
        UsageError_: another form.
    """
    tenant, _, adapter = text.partition("/")
    try:
        return parse_tenant_id(tenant), parse_adapter_name(adapter)
    except NameError_ as exc:
        raise UsageError_(str(exc), fix="Write it as acme/support.") from exc


def version_path(version: VersionId) -> str:
    """The version's resource."""
    return f"/v1/tenants/{version.tenant}/adapters/{version.adapter}/versions/{version.number}"
