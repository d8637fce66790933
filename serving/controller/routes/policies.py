"""/v1/policy and the tenants' and adapters' policies: what the gate asks, and who says so.

Written by the administrator alone: a key that may push must not loosen its own gate.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request, Response

from adapters.errors import PolicyInvalid
from adapters.identity import parse_adapter_name, parse_tenant_id
from adapters.parity.policy import PolicyPatch, parse_policy
from serving.controller.auth import Admin, Caller, Context, Reader
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound
from serving.controller.policies import resolve_scope
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.tables import PolicyRow
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.schemas import PolicyOut

router = APIRouter(prefix="/v1", tags=["policies"], route_class=BoundedRoute)

Number = Annotated[int | None, Query(ge=1, description="An old policy; the latest if left out.")]

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "object", "description": "A partial policy."}}
            for kind in ("application/json", "application/yaml")
        },
    }
}


@router.get("/policy")
async def show_fleet_policy(context: Context, _caller: Admin, number: Number = None) -> PolicyOut:
    """The fleet's own policy, and what holds for a tenant that has none."""
    return await _show(context, PolicyScope(), number)


@router.put("/policy", status_code=201, openapi_extra=_BODY)
async def put_fleet_policy(
    request: Request, response: Response, context: Context, caller: Admin
) -> PolicyOut:
    """Replace the fleet's policy. The latest content again makes nothing new (200)."""
    return await _put(context, PolicyScope(), caller, request=request, response=response)


@router.get("/tenants/{tenant}/policy")
async def show_tenant_policy(
    tenant: str, context: Context, _caller: Reader, number: Number = None
) -> PolicyOut:
    """The tenant's own policy, and what holds for its adapters that have none."""
    await context.repository.tenants.find(tenant)
    return await _show(context, PolicyScope(tenant), number)


@router.put("/tenants/{tenant}/policy", status_code=201, openapi_extra=_BODY)
async def put_tenant_policy(
    tenant: str, request: Request, response: Response, context: Context, caller: Admin
) -> PolicyOut:
    """Replace a tenant's policy. The latest content again makes nothing new (200)."""
    scope = PolicyScope(parse_tenant_id(tenant))
    return await _put(context, scope, caller, request=request, response=response)


@router.get("/tenants/{tenant}/adapters/{adapter}/policy")
async def show_adapter_policy(
    tenant: str, adapter: str, context: Context, _caller: Reader, number: Number = None
) -> PolicyOut:
    """The adapter's own policy, what holds for it, and where each field comes from."""
    await context.repository.tenants.find(tenant)
    return await _show(context, PolicyScope(tenant, parse_adapter_name(adapter)), number)


@router.put("/tenants/{tenant}/adapters/{adapter}/policy", status_code=201, openapi_extra=_BODY)
async def put_adapter_policy(
    tenant: str,
    adapter: str,
    request: Request,
    response: Response,
    context: Context,
    caller: Admin,
) -> PolicyOut:
    """Replace an adapter's policy, also before its first version is pushed."""
    scope = PolicyScope(parse_tenant_id(tenant), parse_adapter_name(adapter))
    return await _put(context, scope, caller, request=request, response=response)


async def _show(context: ControllerContext, scope: PolicyScope, number: int | None) -> PolicyOut:
    row = await context.repository.policies.find(scope, number=number)
    if number is not None and row is None:
        raise NotFound(kind="policy", name=f"{scope.key}@{number}")
    return await _shown(context, scope, row)


async def _put(
    context: ControllerContext,
    scope: PolicyScope,
    caller: Caller,
    *,
    request: Request,
    response: Response,
) -> PolicyOut:
    patch = read_policy(await request.body(), request.headers.get("content-type", ""))
    row, is_new = await context.repository.policies.put(scope, patch.to_json(), actor=caller.actor)
    if not is_new:
        response.status_code = 200
    return await _shown(context, scope, row)


async def _shown(
    context: ControllerContext, scope: PolicyScope, row: PolicyRow | None
) -> PolicyOut:
    resolved = await resolve_scope(context, scope)
    return PolicyOut.of(row, resolved, scope_key=scope.key, scope=scope.kind)


def read_policy(body: bytes, media_type: str) -> PolicyPatch:
    """A partial policy from a request's body: JSON where the type says so, else YAML.

    Raises:
        PolicyInvalid: neither of them, or not a policy.
    """
    is_json = "json" in media_type
    try:
        content = json.loads(body) if is_json else yaml.safe_load(body)
    except (ValueError, RecursionError, yaml.YAMLError) as exc:
        problem = f"it cannot be read as {'JSON' if is_json else 'YAML'}: {exc}"[:300]
        raise PolicyInvalid(field="", problem=problem, fix="Write `field: value` lines.") from exc
    return parse_policy(content)
