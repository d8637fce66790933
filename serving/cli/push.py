"""`loraplane push`: upload an adapter, then follow its checks, gate and switch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from adapters.identity import AdapterName, TenantId, VersionId
from serving.cli import suite_views, views
from serving.cli.client import ControllerClient, Json
from serving.cli.errors import RequestRefused, UsageError_, VerdictRefused
from serving.cli.following import REFUSED, follow, progress_bars
from serving.cli.options import (
    DEFAULT_URL,
    AsJson,
    Token,
    Url,
    connect,
    option,
    read_adapter,
    version_path,
)
from serving.cli.suite import Training, store_suite

_FILES = ("adapter_config.json", "adapter_model.safetensors", "loraplane_fingerprint.json")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Adapter folder, or an archive.")],
    tenant: Annotated[str, option("--tenant", help="Whose adapter it is.")],
    adapter: Annotated[str, option("--adapter", help="Its name.")],
    suite: Annotated[
        str | None, option("--suite", help="Suite for the gate: a JSONL file, or a stored name.")
    ] = None,
    training: Training = None,
    promote: Annotated[
        str, option("--promote", help="auto: goes live on PASS. manual: waits for `promote`.")
    ] = "auto",
    wait: Annotated[
        bool, option("--wait/--no-wait", help="Follow it until it is live or refused.")
    ] = False,
    timeout: Annotated[float, option("--timeout", help="Longest wait, in seconds.")] = 1800.0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Upload an adapter as the next version; exit code 1 when it is refused."""
    owner, name = read_adapter(f"{tenant}/{adapter}")
    if promote not in {"auto", "manual"}:
        raise UsageError_(f"--promote is auto or manual, not {promote!r}.")
    if training is not None and not (suite and Path(suite).is_file()):
        raise UsageError_("--training needs --suite FILE.", fix="Give the suite as a file too.")
    files = artifact_files(folder)
    with connect(url, token) as client, progress_bars(hidden=as_json) as progress:
        form = {"promote": promote}
        if suite:
            form["suite"] = _suite_name(client, owner, suite, training, is_quiet=as_json)
        version = _upload(client, owner, name, files, form=form, progress=progress)
        if wait:
            number = version.get("version", version.get("number"))
            identity = VersionId(owner, name, int(str(number)))
            version = follow(
                client,
                identity,
                progress=progress,
                timeout_seconds=timeout,
                is_manual=promote == "manual",
            )
            version = explain(client, identity, version)
    if as_json:
        views.print_json(version)
    else:
        views.out.print(f"{tenant}/{adapter}@{_number(version)}: {version.get('state')}")
    if version.get("state") in REFUSED:
        raise VerdictRefused({"name": f"{tenant}/{adapter}@{_number(version)}", **version})


def explain(client: ControllerClient, version: VersionId, shown: Json) -> Json:
    """The version with the gate's reasons, where there is a report and no PASS."""
    if shown.get("state") not in {"failed", "inconclusive"}:
        return shown
    try:
        report: Json = client.fetch(version_path(version) + "/report")
    except RequestRefused:
        return shown
    return {**shown, "reasons": report.get("reasons") or []}


def artifact_files(folder: Path) -> list[Path]:
    """The files that make up the artifact: one archive, or the known names of a PEFT folder.

    Raises:
        UsageError_: neither an archive nor a folder with both mandatory files.
    """
    if folder.is_file() and folder.name.endswith(_ARCHIVES):
        return [folder]
    found = [folder / name for name in _FILES if (folder / name).is_file()]
    missing = [name for name in _FILES[:2] if not (folder / name).is_file()]
    if missing:
        raise UsageError_(
            f"{folder} has no {' and no '.join(missing)}.",
            fix="Give the folder that save_pretrained wrote, or a .tar, .tar.gz or .zip of it.",
        )
    return found


def _upload(
    client: ControllerClient,
    tenant: TenantId,
    adapter: AdapterName,
    files: list[Path],
    *,
    form: dict[str, str],
    progress: Progress,
) -> Json:
    total = sum(path.stat().st_size for path in files)
    bar = progress.add_task("upload", total=total, note=_megabytes(total))

    def on_bytes(n: int) -> None:
        progress.advance(bar, n)

    return client.push(tenant, adapter, files, form=form, on_bytes=on_bytes)


def _suite_name(
    client: ControllerClient,
    tenant: TenantId,
    suite: str,
    training: Path | None,
    *,
    is_quiet: bool,
) -> str:
    """The stored suite's name; a file is stored under its stem first."""
    if not Path(suite).is_file():
        return suite
    stored = store_suite(client, tenant, Path(suite), training=training)
    if training is not None and not is_quiet:
        suite_views.print_contamination(stored.get("contamination"))
    return str(stored["name"])


def _number(version: Json) -> Any:
    return version.get("version", version.get("number"))


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"
