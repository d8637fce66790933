"""/v1/tenants/{tenant}/suites: what the gate asks a version."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from adapters.errors import ArtifactTooLarge
from adapters.identity import parse_adapter_name
from adapters.parity.suite import MAX_SUITE_BYTES, parse_suite
from serving.controller.auth import Context, Pusher, Reader
from serving.controller.errors import RequestInvalid
from serving.controller.registry.tables import SuiteRow
from serving.controller.schemas import SuiteList, SuiteOut

router = APIRouter(prefix="/v1/tenants/{tenant}/suites", tags=["suites"])


@router.put("/{suite}", status_code=201)
async def put_suite(
    tenant: str,
    suite: str,
    request: Request,
    response: Response,
    context: Context,
    caller: Pusher,
) -> SuiteOut:
    """Store a suite (JSON lines). The latest content again makes nothing new (200)."""
    name = parse_adapter_name(suite)
    body = await _read(request)
    parsed = parse_suite(body)
    row = SuiteRow(
        tenant_id=tenant,
        name=name,
        digest=parsed.digest,
        n_cases=len(parsed.cases),
        content=body.decode(),
    )
    stored, is_new = await context.repository.tenants.put_suite(row, actor=caller.actor)
    if not is_new:
        response.status_code = 200
    return SuiteOut.of(stored)


@router.get("")
async def list_suites(tenant: str, context: Context, _caller: Reader) -> SuiteList:
    """All contents of all suites."""
    await context.repository.tenants.find(tenant)
    rows = await context.repository.tenants.suites(tenant)
    return SuiteList(suites=[SuiteOut.of(row) for row in rows])


@router.get("/{suite}")
async def show_suite(tenant: str, suite: str, context: Context, _caller: Reader) -> SuiteOut:
    """The latest content of a suite, without its cases."""
    return SuiteOut.of(await context.repository.tenants.find_suite(tenant, suite))


async def _read(request: Request) -> bytes:
    if request.headers.get("content-type", "").startswith("multipart/"):
        place = {"code": "content_type", "subject": "body", "title": "send the JSON lines as body"}
        raise RequestInvalid(errors=[place])
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SUITE_BYTES:
            raise ArtifactTooLarge(what="suite", limit=MAX_SUITE_BYTES)
    return bytes(body)
