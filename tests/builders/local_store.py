"""Puts an adapter folder into a local store, and names it as a snapshot does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.identity import parse_version_id
from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from serving.contract import ArtifactFile, Probe, Role, VersionEntry


def entry(
    name: str,
    folder: Path,
    store: Path,
    *,
    role: Role = Role.SERVING,
    attempt: int = 0,
    probe: Probe | None = None,
) -> VersionEntry:
    """The snapshot's entry of a version whose artifact is now in the store. Not for coroutines."""
    manifest = manifest_of_folder(folder)
    asyncio.run(ArtifactStore.from_url(store.as_uri()).put(manifest, folder))
    version = parse_version_id(name)
    return VersionEntry(
        name=name,
        tenant=version.tenant,
        adapter=version.adapter,
        number=version.number,
        digest=manifest.digest,
        files=[ArtifactFile(file.name, file.sha256, file.size_bytes) for file in manifest.files],
        rank=8,
        role=role,
        probe=probe,
        attempt=attempt,
    )
