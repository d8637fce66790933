"""/v1/tenants/{tenant}/suites: what the gate asks a version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from adapters.errors import ArtifactTooLarge
from adapters.identity import parse_adapter_name
from adapters.parity.contamination import ContaminationReport
from adapters.parity.suite import MAX_SUITE_BYTES, parse_suite
from serving.controller.auth import Context, Pusher, Reader
from serving.controller.contamination_check import ContaminationCheck, rules_of
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound
from serving.controller.policies import resolve_scope
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.tables import SuiteRow
from serving.controller.schemas import SuiteList, SuiteOut
from serving.controller.upload_form import SUITE, TRAINING, UploadForm, suite_form
from serving.controller.uploads import Uploads

router = APIRouter(prefix="/v1/tenants/{tenant}/suites", tags=["suites"])

_MAX_SHOWN_LEAKS = 20
_PIECE_CHARACTERS = 64 * 1024

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/jsonl": {"schema": {"type": "string"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [SUITE],
                    "properties": {
                        SUITE: {"type": "string", "format": "binary"},
                        TRAINING: {"type": "string", "format": "binary"},
                    },
                }
            },
        },
    }
}


@router.put("/{suite}", status_code=201, openapi_extra=_FORM)
async def put_suite(
    tenant: str,
    suite: str,
    request: Request,
    response: Response,
    context: Context,
    caller: Pusher,
) -> SuiteOut:
    """Store a suite: JSON lines as the body, or a form with `suite` and the `training` set.

    With a training set the suite is compared with it first; too many cases in common refuse the
    suite (422 `suite_contaminated`) and store nothing. The latest content again makes nothing new
    (200): with a training set its report replaces the stored one, without one that stays.
    """
    name = parse_adapter_name(suite)
    await context.repository.tenants.find(tenant)
    if request.headers.get("content-type", "").startswith("multipart/"):
        row = await _read_form(request, context, tenant, name)
    else:
        row = await _row(tenant, name, await _read_body(request))
    stored, is_new = await context.repository.tenants.put_suite(row, actor=caller.actor)
    if not is_new:
        response.status_code = 200
    return SuiteOut.of(stored)


@router.get("")
async def list_suites(tenant: str, context: Context, _caller: Reader) -> SuiteList:
    """All contents of all suites; of each report the first leaked cases."""
    await context.repository.tenants.find(tenant)
    rows = await context.repository.tenants.suites(tenant)
    return SuiteList(suites=[SuiteOut.of(row, max_leaks=_MAX_SHOWN_LEAKS) for row in rows])


@router.get("/{suite}")
async def show_suite(tenant: str, suite: str, context: Context, _caller: Reader) -> SuiteOut:
    """The latest content of a suite, without its cases; of its report the first leaked cases."""
    row = await context.repository.tenants.find_suite(tenant, suite)
    return SuiteOut.of(row, max_leaks=_MAX_SHOWN_LEAKS)


@router.get("/{suite}/cases", response_class=StreamingResponse)
async def show_cases(
    tenant: str,
    suite: str,
    context: Context,
    _caller: Reader,
    number: Annotated[int | None, Query(ge=1)] = None,
) -> StreamingResponse:
    """The cases as they were sent, JSON lines; of the latest content, or of content `number`."""
    tenants = context.repository.tenants
    if number is None:
        row = await tenants.find_suite(tenant, suite)
    else:
        row = await tenants.suite(f"{tenant}/{parse_adapter_name(suite)}@{number}")
    headers = {"ETag": f'"{row.digest}"', "X-Loraplane-Suite": row.id}
    return StreamingResponse(_pieces(row.content), media_type="application/jsonl", headers=headers)


def _pieces(content: str) -> Iterator[bytes]:
    for start in range(0, len(content), _PIECE_CHARACTERS):
        yield content[start : start + _PIECE_CHARACTERS].encode()


async def _read_form(
    request: Request, context: ControllerContext, tenant: str, name: str
) -> SuiteRow:
    uploads: Uploads = request.app.state.uploads
    kind = suite_form(
        max_suite_bytes=MAX_SUITE_BYTES, max_training_bytes=context.settings.max_training_bytes
    )
    content_type = request.headers.get("content-type", "")
    async with uploads.slot() as folder:
        form = await uploads.receive(content_type, request.stream(), folder, kind=kind)
        row = await _row(tenant, name, await asyncio.to_thread((folder / SUITE).read_bytes))
        if TRAINING in form.files:
            check: ContaminationCheck = request.app.state.contamination
            row.contamination = await _compare(context, check, row, form, folder)
    return row


async def _compare(
    context: ControllerContext,
    check: ContaminationCheck,
    row: SuiteRow,
    form: UploadForm,
    folder: Path,
) -> dict[str, Any]:
    """The report on `row` and the form's training set; one that is stored already is not redone.

    By the tenant's policy: which adapters the suite will judge is not known yet.

    Raises:
        SuiteContaminated: more leaked than the rules allow.
    """
    digest = f"sha256:{form.files[TRAINING].sha256}"
    stored = await _stored_report(context, row)
    rules = rules_of((await resolve_scope(context, PolicyScope(row.tenant_id))).policy)
    if stored is not None and (stored.training_digest, stored.rules) == (digest, rules):
        return stored.to_json()
    report = await check.compare(folder / SUITE, folder / TRAINING, rules=rules, digest=digest)
    report.check()
    return report.to_json()


async def _stored_report(context: ControllerContext, row: SuiteRow) -> ContaminationReport | None:
    try:
        latest = await context.repository.tenants.find_suite(row.tenant_id, row.name)
    except NotFound:
        return None
    if latest.digest != row.digest or latest.contamination is None:
        return None
    return ContaminationReport.from_json(latest.contamination)


async def _row(tenant: str, name: str, body: bytes) -> SuiteRow:
    """The suite's row, parsed beside the event loop: a large suite takes a second."""
    parsed = await asyncio.to_thread(parse_suite, body)
    return SuiteRow(
        tenant_id=tenant,
        name=name,
        digest=await asyncio.to_thread(lambda: parsed.digest),
        n_cases=len(parsed.cases),
        content=body.decode(),
        contamination=None,
    )


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SUITE_BYTES:
            raise ArtifactTooLarge(what="suite", limit=MAX_SUITE_BYTES)
    return bytes(body)
