"""Small snapshots for tests of the engine room."""

from __future__ import annotations

import hashlib

from adapters.identity import parse_version_id
from serving.contract import (
    AliasEntry,
    FleetSnapshot,
    KeyGrant,
    Probe,
    Role,
    TenantEntry,
    VersionEntry,
    hash_key,
)

SECRET = "a cluster secret for tests"


def version(
    name: str,
    *,
    digest: str | None = None,
    role: Role = Role.SERVING,
    attempt: int = 0,
    probe: Probe | None = None,
) -> VersionEntry:
    """An entry; without a digest it gets one of its own."""
    parsed = parse_version_id(name)
    return VersionEntry(
        name=name,
        tenant=parsed.tenant,
        adapter=parsed.adapter,
        number=parsed.number,
        digest=digest or "sha256:" + hashlib.sha256(name.encode()).hexdigest(),
        files=[],
        rank=8,
        role=role,
        attempt=attempt,
        probe=probe,
    )


def alias(name: str) -> AliasEntry:
    """The alias that points to this version."""
    parsed = parse_version_id(name)
    return AliasEntry(parsed.tenant, parsed.adapter, parsed.number)


def key(
    text: str,
    *,
    tenant: str = "acme",
    scopes: tuple[str, ...] = ("inference",),
    expires_at: float | None = None,
    fallback: str = "none",
) -> KeyGrant:
    """The grant of the key with this text."""
    return KeyGrant(
        key_id=f"key-{text}",
        key_hash=hash_key(text, cluster_secret=SECRET),
        tenant=tenant,
        scopes=list(scopes),
        expires_at=expires_at,
        fallback=fallback,
    )


def snapshot(
    *versions: VersionEntry,
    revision: int = 1,
    aliases: tuple[str, ...] = (),
    keys: tuple[KeyGrant, ...] = (),
    tenants: tuple[TenantEntry, ...] = (),
    store_url: str = "file:///nowhere",
    fleet: str = "base",
) -> FleetSnapshot:
    """A snapshot of these."""
    return FleetSnapshot(
        revision=revision,
        fleet=fleet,
        store_url=store_url,
        versions=list(versions),
        aliases=[alias(name) for name in aliases],
        keys=list(keys),
        tenants=list(tenants),
    )
