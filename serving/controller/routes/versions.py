""".../versions: upload, show, evaluate, promote, retire, report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from adapters.identity import parse_adapter_name
from adapters.parity.report_page import POLICY, render_page
from serving.controller.auth import Context, Promoter, Pusher, Reader
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound, RequestInvalid
from serving.controller.promotion import promote_version
from serving.controller.registry.moves import version_id
from serving.controller.registry.tables import GateReportRow, VersionRow
from serving.controller.registry.versions import Upload
from serving.controller.routes import version_events
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.schemas import PromoteIn, ReasonIn, VersionOut
from serving.controller.uploads import Uploads

PREFIX = "/v1/tenants/{tenant}/adapters/{adapter}/versions"
uploads_router = APIRouter(prefix=PREFIX, tags=["versions"])
router = APIRouter(prefix=PREFIX, tags=["versions"], route_class=BoundedRoute)

_MAX_IDEMPOTENCY_KEY = 200
_PAGE_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "adapter_config.json": {"type": "string", "format": "binary"},
                        "adapter_model.safetensors": {"type": "string", "format": "binary"},
                        "loraplane_fingerprint.json": {"type": "string", "format": "binary"},
                        "archive": {"type": "string", "format": "binary"},
                        "suite": {"type": "string"},
                        "promote": {"type": "string", "enum": ["auto", "manual"]},
                    },
                }
            }
        },
    }
}


@uploads_router.post("", status_code=202, openapi_extra=_FORM)
async def push(
    tenant: str,
    adapter: str,
    request: Request,
    response: Response,
    context: Context,
    caller: Pusher,
) -> VersionOut:
    """Upload an artifact: its files or one archive. 202: a new version, safe from now on.

    The same bytes are the same version (200). An Idempotency-Key makes repeating a request safe.
    """
    parse_adapter_name(adapter)
    await context.repository.tenants.find(tenant)
    uploads: Uploads = request.app.state.uploads
    async with uploads.slot() as folder:
        try:
            form = await uploads.receive(
                request.headers.get("content-type", ""), request.stream(), folder
            )
        finally:
            context.metrics.upload_bytes.inc(int(request.headers.get("content-length") or 0))
        mode, suite_id = await _read_fields(context, tenant, form.fields)
        manifest = await uploads.keep(form, folder, context.store)
    upload = Upload(
        tenant_id=tenant,
        adapter=adapter,
        digest=manifest.digest,
        files=manifest.to_json()["files"],
        created_by=caller.actor,
        promote_mode=mode,
        suite_id=suite_id,
        idempotency_key=_idempotency_key(request),
    )
    row, is_new = await context.repository.versions.acknowledge(upload)
    context.hint()
    response.headers["Location"] = f"{request.url.path}/{row.number}"
    if not is_new:
        response.status_code = 200
    return VersionOut.of(row)


async def _read_fields(
    context: ControllerContext, tenant: str, fields: Mapping[str, str]
) -> tuple[str, str | None]:
    """(promote mode, suite id), checked before the bytes are kept."""
    mode = fields.get("promote", "manual")
    if mode not in {"auto", "manual"}:
        place = {"code": "promote", "subject": "promote", "title": "promote is auto or manual"}
        raise RequestInvalid(errors=[place])
    if not fields.get("suite"):
        return mode, None
    return mode, (await context.repository.tenants.find_suite(tenant, fields["suite"])).id


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _MAX_IDEMPOTENCY_KEY:
        title = f"1 to {_MAX_IDEMPOTENCY_KEY} characters"
        place = {"code": "idempotency_key", "subject": "Idempotency-Key", "title": title}
        raise RequestInvalid(errors=[place])
    return key


@router.get("/{number}", response_model=VersionOut)
async def show_version(
    tenant: str,
    adapter: str,
    number: int,
    request: Request,
    context: Context,
    _caller: Reader,
    accept: Annotated[str, Header()] = "*/*",
) -> VersionOut | Response:
    """One version, and what the engines say of it; its way with `Accept: text/event-stream`."""
    row = await context.repository.versions.find(version_id(tenant, adapter, number))
    if version_events.MEDIA_TYPE in accept:
        token = request.headers["authorization"].partition(" ")[2].strip()
        return version_events.stream_version(context, row, token=token)
    return VersionOut.of(row, await context.repository.fleet.engines())


@router.get("/{number}/report", response_model=None)
async def show_report(
    tenant: str,
    adapter: str,
    number: int,
    context: Context,
    _caller: Reader,
    accept: Annotated[str, Header()] = "*/*",
    attempt: Annotated[int | None, Query(ge=0)] = None,
    recheck: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """The gate's latest report (or of an `attempt`): JSON, or HTML with `Accept: text/html`.

    `recheck`: 0 for the evaluation that decided, 1, 2, ... for re-checks of the version in service.
    """
    row = await context.repository.versions.find(version_id(tenant, adapter, number))
    found = await context.repository.versions.report(row.id, attempt=attempt, recheck=recheck)
    if found is None:
        raise NotFound(kind="report", name=row.id)
    report = _shown_report(row, found)
    if "text/html" in accept:
        page = await asyncio.to_thread(render_page, {"version": row.id, **report})
        return HTMLResponse(page, headers=_PAGE_HEADERS)
    return JSONResponse(report)


def _shown_report(row: VersionRow, found: GateReportRow) -> dict[str, Any]:
    """The report as it was written, with which one it is and what people made of it since."""
    override = None
    notes = [*found.report.get("notes", ())]
    if row.override_reason is not None:
        override = {"by": row.override_by, "reason": row.override_reason}
        text = f"{row.override_by} promoted it all the same: {row.override_reason}"
        notes.append({"code": "overridden", "text": text})
    about = {"attempt": found.attempt, "recheck": found.recheck, "override": override}
    return {**found.report, "notes": notes, **about}


@router.post("/{number}/evaluate", status_code=202)
async def evaluate(
    tenant: str,
    adapter: str,
    number: int,
    context: Context,
    caller: Pusher,
    body: ReasonIn | None = None,
) -> VersionOut:
    """Ask the gate again, as a new attempt."""
    row = await context.repository.versions.reevaluate(
        version_id(tenant, adapter, number),
        actor=caller.actor,
        reason=body.reason if body else None,
    )
    context.hint()
    return VersionOut.of(row)


@router.post("/{number}/promote", status_code=202)
async def promote(
    tenant: str,
    adapter: str,
    number: int,
    context: Context,
    caller: Promoter,
    body: PromoteIn | None = None,
) -> VersionOut:
    """Stage a version on all ready engines; the alias moves once each has proven it.

    A version that has passed on an engine build, base or number type that the fleet no longer runs
    goes through the gate again first, and on by itself after PASS.
    """
    row = await promote_version(
        context,
        version_id(tenant, adapter, number),
        actor=caller.actor,
        override_reason=body.override_reason if body else None,
    )
    return VersionOut.of(row)


@router.post("/{number}/retire")
async def retire(
    tenant: str,
    adapter: str,
    number: int,
    context: Context,
    caller: Promoter,
    body: ReasonIn | None = None,
) -> VersionOut:
    """Forbid new use; engines remove it when its last request is over."""
    row = await context.repository.versions.retire(
        version_id(tenant, adapter, number),
        actor=caller.actor,
        reason=body.reason if body else None,
    )
    context.hint()
    return VersionOut.of(row)
