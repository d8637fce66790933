"""/v1/tenants/{tenant}/adapters: adapters with their versions and aliases; rollback."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from serving.controller.auth import Admin, Context, Promoter, Reader
from serving.controller.registry.tables import AdapterRow, AliasRow, VersionRow
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.schemas import (
    AdapterList,
    AdapterOut,
    FleetAdapterList,
    OnEngine,
    ReasonIn,
    VersionOut,
    versions_on_engines,
)

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
    return AdapterList(adapters=_all_shown(rows, aliases, versions))


@router.get("/{adapter}")
async def show_adapter(tenant: str, adapter: str, context: Context, _caller: Reader) -> AdapterOut:
    """One adapter."""
    row = await context.repository.fleet.adapter(tenant, adapter)
    aliases = await context.repository.fleet.aliases(tenant_id=tenant)
    versions = await context.repository.versions.all(tenant_id=tenant, adapter=adapter)
    (shown,) = _all_shown([row], aliases, versions)
    return shown


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
async def list_fleet(
    context: Context,
    _caller: Admin,
    search: Annotated[str, Query(max_length=200, description="Part of tenant/adapter.")] = "",
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> FleetAdapterList:
    """All tenants' adapters, or one page of them, each version with what the engines say of it."""
    fleet = context.repository.fleet
    rows, total = await fleet.adapter_page(search=search, limit=limit, offset=offset)
    keys = [(row.tenant_id, row.name) for row in rows]
    held = versions_on_engines(await fleet.engines())
    return FleetAdapterList(
        total=total,
        adapters=_all_shown(
            rows,
            await fleet.aliases(keys=keys),
            await context.repository.versions.all(keys=keys),
            held,
        ),
    )


def _all_shown(
    rows: Sequence[AdapterRow],
    aliases: Sequence[AliasRow],
    versions: Sequence[VersionRow],
    held: Mapping[str, list[OnEngine]] | None = None,
) -> list[AdapterOut]:
    alias_of = {(alias.tenant_id, alias.adapter): alias for alias in aliases}
    versions_of: defaultdict[tuple[str, str], list[VersionOut]] = defaultdict(list)
    for row in versions:
        shown = VersionOut.of(row)
        shown.engines = list((held or {}).get(row.id, ()))
        versions_of[row.tenant_id, row.adapter].append(shown)
    return [_shown(row, alias_of, versions_of) for row in rows]


def _shown(
    row: AdapterRow,
    alias_of: Mapping[tuple[str, str], AliasRow],
    versions_of: Mapping[tuple[str, str], list[VersionOut]],
) -> AdapterOut:
    alias = alias_of.get((row.tenant_id, row.name))
    return AdapterOut(
        name=row.name,
        tenant=row.tenant_id,
        live=alias.number if alias else None,
        previous=alias.previous_number if alias else None,
        created_at=row.created_at,
        versions=versions_of.get((row.tenant_id, row.name), []),
    )
