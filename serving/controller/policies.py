"""The gate's policy of one adapter: the settings, then the fleet's, tenant's and adapter's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from adapters.parity.policy import (
    GatePolicy,
    PolicyPatch,
    PolicySource,
    ResolvedPolicy,
    Scope,
    parse_policy,
    resolve,
)
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.settings import ControllerSettings


class PolicyContext(Protocol):
    """What resolving needs: both `ControllerContext` and `StepContext` are one."""

    @property
    def settings(self) -> ControllerSettings:
        """The controller's settings."""
        ...

    @property
    def repository(self) -> Repository:
        """The registry."""
        ...


async def resolve_policy(context: PolicyContext, row: VersionRow) -> ResolvedPolicy:
    """The policy that holds for a version now.

    Raises:
        RegistryUnavailable: the database did not answer.
        PolicyInvalid: a stored policy or a setting is not one of this loraplane version.
    """
    return await resolve_scope(context, PolicyScope(row.tenant_id, row.adapter))


async def resolve_scope(context: PolicyContext, scope: PolicyScope) -> ResolvedPolicy:
    """The policy that holds for one scope now; raises as `resolve_policy`."""
    rows = await context.repository.policies.in_force(scope)
    stored = [
        (PolicySource(Scope(row.scope), row.number), parse_policy(row.content)) for row in rows
    ]
    settings = (PolicySource(Scope.SETTINGS), patch_of(context.settings))
    return resolve(GatePolicy(), settings, *stored)


def patch_of(settings: ControllerSettings) -> PolicyPatch:
    """The settings of the gate that differ from a policy's defaults.

    Raises:
        PolicyInvalid: a setting is out of a policy's range.
    """
    values = {
        "repeats": settings.gate_repeats,
        "min_numeric_cases": settings.gate_min_cases,
        "noise_factor": settings.gate_noise_factor,
        "effect_factor": settings.gate_effect_factor,
        "require_export_evidence": settings.require_export_evidence,
    }
    contamination = {
        "jaccard": settings.contamination_jaccard,
        "shingle": settings.contamination_shingle,
        "num_perm": settings.contamination_num_perm,
        "max_fraction": settings.contamination_max_fraction,
    }
    usual = GatePolicy()
    changed = _changed(values, usual)
    if nested := _changed(contamination, usual.contamination):
        changed["contamination"] = nested
    return parse_policy(changed)


def _changed(values: Mapping[str, Any], usual: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != getattr(usual, name)}
