"""/v1/tenants/{tenant}/adapters: adapters with their versions and aliases; rollback."""

from __future__ import annotations

from fastapi import APIRouter

from serving.controller.auth import Admin, Context, Promoter, Reader
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.tables import AdapterRow, AliasRow, VersionRow
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.schemas import AdapterList, AdapterOut, ReasonIn, VersionOut

router = APIRouter(
    prefix="/v1/tenants/{tenant}/adapters", tags=["adapters"], route_class=BoundedRoute
)
fleet_router = APIRouter(prefix="/v1", tags=["adapters"])


@router.get("")
async def list_adapters(tenant: str, context: Context, _caller: Reader) -> AdapterList:
    """All adapters of a tenant."""
    await context.repository.tenants.find(tenant)
    rows = await context.repository.fleet.adapters(tenant_id=tenant)
    aliases = await context.repository.fleet.aliases(tenant_id=tenant)
    versions = await context.repository.versions.all(tenant_id=tenant)
    return AdapterList(adapters=[_shown(row, aliases, versions) for row in rows])


@router.get("/{adapter}")
async def show_adapter(tenant: str, adapter: str, context: Context, _caller: Reader) -> AdapterOut:
    """One adapter."""
    row = await context.repository.fleet.adapter(tenant, adapter)
    aliases = await context.repository.fleet.aliases(tenant_id=tenant)
    versions = await context.repository.versions.all(tenant_id=tenant, adapter=adapter)
    return _shown(row, aliases, versions)


@router.post("/{adapter}/rollback")
async def roll_back(
    tenant: str, adapter: str, context: Context, caller: Promoter, body: ReasonIn | None = None
) -> VersionOut:
    """Move the alias back to its previous version, which the engines still hold: no reload."""
    row = await context.repository.versions.roll_back(
        tenant,
        adapter,
        actor=caller.actor,
        rollback_seconds=context.settings.rollback_window_seconds,
        reason=body.reason if body else None,
    )
    context.hint()
    return VersionOut.of(row)


@fleet_router.get("/adapters")
async def list_fleet(context: Context, _caller: Admin) -> AdapterList:
    """All adapters of all tenants, each version with what the engines say of it."""
    rows = await context.repository.fleet.adapters()
    aliases = await context.repository.fleet.aliases()
    versions = await context.repository.versions.all()
    engines = await context.repository.fleet.engines()
    return AdapterList(adapters=[_shown(row, aliases, versions, engines) for row in rows])


def _shown(
    row: AdapterRow,
    aliases: list[AliasRow],
    versions: list[VersionRow],
    engines: list[ObservedEngine] | None = None,
) -> AdapterOut:
    own = (row.tenant_id, row.name)
    alias = next((alias for alias in aliases if (alias.tenant_id, alias.adapter) == own), None)
    return AdapterOut(
        name=row.name,
        tenant=row.tenant_id,
        live=alias.number if alias else None,
        previous=alias.previous_number if alias else None,
        created_at=row.created_at,
        versions=[
            VersionOut.of(version, engines)
            for version in versions
            if (version.tenant_id, version.adapter) == own
        ],
    )
