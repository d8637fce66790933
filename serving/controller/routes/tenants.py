"""/v1/tenants and their keys."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Response

from adapters.identity import parse_tenant_id
from serving.contract import hash_key
from serving.controller.auth import SHOWN_CHARACTERS, Admin, Context, Reader, make_key
from serving.controller.registry.tables import KeyRow
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.schemas import (
    KeyCreated,
    KeyIn,
    KeyList,
    KeyOut,
    TenantChange,
    TenantIn,
    TenantList,
    TenantOut,
)

router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=BoundedRoute)


@router.post("", status_code=201)
async def create_tenant(body: TenantIn, context: Context, caller: Admin) -> TenantOut:
    """Make a tenant. Its id is never given again, even after deletion."""
    row = await context.repository.tenants.create(
        parse_tenant_id(body.id),
        display_name=body.display_name or body.id,
        max_in_flight=body.max_in_flight,
        actor=caller.actor,
    )
    return TenantOut.of(row)


@router.get("")
async def list_tenants(context: Context, _caller: Admin) -> TenantList:
    """All tenants."""
    rows = await context.repository.tenants.all()
    return TenantList(tenants=[TenantOut.of(row) for row in rows])


@router.get("/{tenant}")
async def show_tenant(tenant: str, context: Context, _caller: Reader) -> TenantOut:
    """One tenant."""
    return TenantOut.of(await context.repository.tenants.find(tenant))


@router.patch("/{tenant}")
async def change_tenant(
    tenant: str, body: TenantChange, context: Context, caller: Admin
) -> TenantOut:
    """Change a tenant's display name or limits."""
    values = body.model_dump(exclude_unset=True)
    row = await context.repository.tenants.change(tenant, actor=caller.actor, **values)
    return TenantOut.of(row)


@router.delete("/{tenant}", status_code=204)
async def delete_tenant(tenant: str, context: Context, caller: Admin) -> Response:
    """Revoke its keys and retire its versions; engines follow within seconds."""
    await context.repository.tenants.delete(tenant, actor=caller.actor)
    context.hint()
    return Response(status_code=204)


@router.post("/{tenant}/keys", status_code=201)
async def create_key(tenant: str, body: KeyIn, context: Context, caller: Admin) -> KeyCreated:
    """Make an API key. This answer alone holds it: only its hash is kept."""
    key = make_key(tenant, cluster_secret=context.cluster_secret)
    row = KeyRow(
        id=f"key_{uuid.uuid4().hex[:16]}",
        tenant_id=tenant,
        name=body.name,
        prefix=key[:SHOWN_CHARACTERS],
        key_hash=hash_key(key, cluster_secret=context.cluster_secret),
        scopes=sorted({scope.value for scope in body.scopes}),
        fallback=body.fallback,
        expires_at=body.expires_at.timestamp() if body.expires_at else None,
    )
    row = await context.repository.tenants.add_key(row, actor=caller.actor)
    return KeyCreated.revealing(row, key)


@router.get("/{tenant}/keys")
async def list_keys(tenant: str, context: Context, _caller: Admin) -> KeyList:
    """All keys of a tenant, revoked ones too, without the keys themselves."""
    await context.repository.tenants.find(tenant)
    rows = await context.repository.tenants.keys(tenant)
    return KeyList(keys=[KeyOut.of(row) for row in rows])


@router.delete("/{tenant}/keys/{key_id}", status_code=204)
async def revoke_key(tenant: str, key_id: str, context: Context, caller: Admin) -> Response:
    """Forbid a key; engines refuse it from the next snapshot on."""
    await context.repository.tenants.revoke_key(tenant, key_id, actor=caller.actor)
    return Response(status_code=204)
