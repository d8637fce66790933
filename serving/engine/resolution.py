"""Which version answers a request: (key, `model`) -> version, base model, or a refusal. Pure.

Another tenant's adapter and one that does not exist are the same answer, in the same words.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from adapters.errors import NameError_
from adapters.identity import parse_model_name
from serving.contract import FleetSnapshot, KeyGrant, Role, VersionEntry

SCOPE_INFERENCE, SCOPE_BASE, SCOPE_GATE = "inference", "base", "gate"
SCOPES = frozenset({SCOPE_INFERENCE, SCOPE_BASE, SCOPE_GATE})

REFUSED_FIELDS = {
    "priority": "scheduling classes are the operator's",
    "kv_transfer_params": "key-value transfer is the operator's",
    "cache_salt": "the prefix cache is separated by tenant already",
    "vllm_xargs": "engine arguments are the operator's",
    "lora_name": "the adapter is chosen with `model`",
    "lora_path": "the adapter is chosen with `model`",
    "lora_request": "the adapter is chosen with `model`",
    "load_inplace": "the adapter is chosen with `model`",
    "previous_response_id": "responses are not stored",
    "background": "responses are not stored",
}
"""Body fields that a client may not set, and why."""
_MAX_NAMES = 20_000
"""Parsed names that are remembered; twice the adapters that a fleet was measured with."""

_parse = lru_cache(maxsize=_MAX_NAMES)(parse_model_name)


@dataclass(frozen=True, slots=True)
class Table:
    """A snapshot, indexed for requests. Replaced as a whole; only what was looked up is added."""

    fleet: str
    revision: int
    versions: Mapping[str, VersionEntry]
    aliases: Mapping[tuple[str, str], int]
    keys: Mapping[str, KeyGrant]
    limits: Mapping[str, int]
    """Requests in flight per tenant; tenants without a limit are left out."""
    alias_targets: frozenset[str]
    callers: dict[bytes, KeyGrant] = field(default_factory=dict, compare=False, repr=False)
    """Grants by the fingerprint of the header that named their key; filled by the front door."""
    found: dict[tuple[str, str], Resolved] = field(default_factory=dict, compare=False, repr=False)
    """What a key (by its hash) has got for a `model`, whether or not it is proven; `resolve`'s."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """This version answers."""

    entry: VersionEntry


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base model answers; `instead_of` names the version that it stands in for, if any."""

    instead_of: str | None = None


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """No such model for this key."""

    model: str


@dataclass(frozen=True, slots=True)
class ModelMissing:
    """The request names no model; vLLM would answer with the base model."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """The version exists and may be used by this key, but is not proven on this engine."""

    name: str


Resolution = Resolved | BaseModel | UnknownModel | ModelMissing | NotReady


def compile_table(snapshot: FleetSnapshot, *, gate_key_hash: str) -> Table:
    """Index a snapshot; the gate's own key is always in it."""
    gate = KeyGrant(key_id="gate", key_hash=gate_key_hash, tenant="", scopes=[SCOPE_GATE])
    versions = {entry.name: entry for entry in snapshot.versions}
    aliases = {(alias.tenant, alias.adapter): alias.number for alias in snapshot.aliases}
    return Table(
        fleet=snapshot.fleet,
        revision=snapshot.revision,
        versions=versions,
        aliases=aliases,
        keys={**{grant.key_hash: grant for grant in snapshot.keys}, gate_key_hash: gate},
        limits={
            entry.tenant: entry.max_in_flight
            for entry in snapshot.tenants
            if entry.max_in_flight is not None
        },
        alias_targets=frozenset(
            f"{tenant}/{adapter}@{number}" for (tenant, adapter), number in aliases.items()
        ),
    )


def resolve(
    table: Table, grant: KeyGrant, model: str | None, *, proven: Container[str]
) -> Resolution:
    """What answers `model` for this key.

    `support` is the tenant's alias; `support@3`, `acme/support` and `acme/support@3` say more. The
    base model's name needs the scope `base` or `gate`; a candidate needs `gate`.
    """
    if not model:
        return BaseModel() if grant.scopes == [SCOPE_BASE] else ModelMissing()
    if model == table.fleet:
        may_use_base = SCOPE_BASE in grant.scopes or SCOPE_GATE in grant.scopes
        return BaseModel() if may_use_base else UnknownModel(model)
    found = table.found.get((grant.key_hash, model))
    if found is None:
        entry = _entry_of(table, grant, model)
        if entry is None:
            return UnknownModel(model)
        found = Resolved(entry)
        # Not for a grant of the snapshot before: it may have allowed more.
        if table.keys.get(grant.key_hash) is grant and len(table.found) < _MAX_NAMES:
            table.found[grant.key_hash, model] = found
    entry = found.entry
    if entry.name in proven:
        return found
    if grant.fallback == "base":
        return BaseModel(instead_of=entry.name)
    return NotReady(entry.name)


def _entry_of(table: Table, grant: KeyGrant, model: str) -> VersionEntry | None:
    is_gate = SCOPE_GATE in grant.scopes
    if not is_gate and SCOPE_INFERENCE not in grant.scopes:
        return None
    try:
        asked = _parse(model)
    except NameError_:
        return None
    tenant = grant.tenant if asked.tenant is None else asked.tenant
    if tenant != grant.tenant and not is_gate:
        return None
    number = asked.number
    if number is None:
        number = table.aliases.get((tenant, asked.adapter))
        if number is None:
            return None
    entry = table.versions.get(f"{tenant}/{asked.adapter}@{number}")
    if entry is None or (entry.role is not Role.SERVING and not is_gate):
        return None
    return entry


def listing(table: Table, grant: KeyGrant) -> list[tuple[str, str | None]]:
    """(id, parent) of every model that this key may name, for `/v1/models`.

    An alias's parent is the version that it points to, a version's is the base model.
    """
    is_gate = SCOPE_GATE in grant.scopes
    rows: list[tuple[str, str | None]] = []
    if is_gate or SCOPE_BASE in grant.scopes:
        rows.append((table.fleet, None))
    if not is_gate and SCOPE_INFERENCE not in grant.scopes:
        return rows
    for (tenant, adapter), number in sorted(table.aliases.items()):
        if is_gate or tenant == grant.tenant:
            name = f"{tenant}/{adapter}"
            rows.append((name if is_gate else adapter, f"{name}@{number}"))
    for entry in sorted(table.versions.values(), key=lambda e: (e.tenant, e.adapter, e.number)):
        if is_gate or (entry.tenant == grant.tenant and entry.role is Role.SERVING):
            rows.append((entry.name, table.fleet))
    return rows


def refused_field(fields: Mapping[str, object]) -> str | None:
    """The first body field that a client may not set; null and false count as not set."""
    for name in fields:
        if name in REFUSED_FIELDS and fields[name] not in (None, False):
            return name
    return None
