"""What an engine without a controller needs in its folder: adapters in a store, and a snapshot.

One tenant with one key for each synthetic adapter, so that an engine does for each request what it
does in a fleet: recognise the key, find the tenant's adapter, bring it into a slot.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.base_model import BaseModelCard
from adapters.manifest import Manifest, manifest_of_folder
from adapters.store import ArtifactStore
from serving.contract import (
    AliasEntry,
    ArtifactFile,
    FleetSnapshot,
    KeyGrant,
    Role,
    VersionEntry,
    encode,
    hash_key,
)
from serving.engine.profile import EngineProfile
from serving.tuning.synthetic_adapter import write_synthetic_adapter

ADAPTER = "synthetic"
"""Every tenant calls its adapter so."""


@dataclass(frozen=True, slots=True)
class RigFiles:
    """What was written: the keys by adapter, the secret that they hang on, and where things lie."""

    keys: tuple[str, ...]
    cluster_secret: str
    engine_dir: Path
    profile: Path


def tenant_name(index: int) -> str:
    """Name of the tenant of adapter `index`."""
    return f"tenant-{index:04d}"


def engine_dir_of(folder: Path) -> Path:
    """Where an engine keeps what is its own, within the rig's folder."""
    return folder / "engine"


def write_rig_files(
    folder: Path,
    profile: EngineProfile,
    card: BaseModelCard,
    *,
    n_adapters: int,
    rank: int,
    fleet: str,
    on_progress: Callable[[int], None],
) -> RigFiles:
    """Write store, snapshot and profile below `folder`; `on_progress` gets the adapters written.

    Without adapters there is one tenant with a key all the same, for the base model.

    The adapters of one folder are those of the numbers 0, 1, ...: with the same rank they are the
    same bytes again, and what is in the store already is not written twice.

    Raises:
        BaseModelError: the base has none of the profile's target modules.
        OSError: the folder cannot be written.
    """
    store, engine_dir = folder / "store", engine_dir_of(folder)
    engine_dir.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_urlsafe(32)
    keys = tuple(f"lp_{secrets.token_urlsafe(32)}" for _ in range(max(1, n_adapters)))
    manifests = []
    for index in range(n_adapters):
        manifests.append(_store_adapter(store, folder, card, profile, rank=rank, index=index))
        on_progress(index + 1)
    snapshot = _snapshot(f"file://{store}", manifests, keys, secret=secret, rank=rank, fleet=fleet)
    (engine_dir / "snapshot.json").write_bytes(encode(snapshot))
    written = folder / "profile.yaml"
    written.write_text(json.dumps(profile_values(profile), indent=2) + "\n")
    return RigFiles(keys, secret, engine_dir, written)


def profile_values(profile: EngineProfile) -> dict[str, object]:
    """The fields as a profile file has them; those that are None are left out."""
    values = dataclasses.asdict(profile)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def _store_adapter(
    store: Path, folder: Path, card: BaseModelCard, profile: EngineProfile, *, rank: int, index: int
) -> Manifest:
    written = write_synthetic_adapter(
        folder / "incoming", card, rank=rank, targets=profile.target_modules, seed=index
    )
    try:
        manifest = manifest_of_folder(written)
        asyncio.run(ArtifactStore.from_url(f"file://{store}").put(manifest, written))
    finally:
        shutil.rmtree(written)
    return manifest


def _snapshot(
    store_url: str,
    manifests: list[Manifest],
    keys: tuple[str, ...],
    *,
    secret: str,
    rank: int,
    fleet: str,
) -> FleetSnapshot:
    grants = [
        # `base`: what an adapter costs is seen beside the bare base model.
        KeyGrant(
            f"key-{index:04d}",
            hash_key(key, cluster_secret=secret),
            tenant_name(index),
            ["inference", "base"],
        )
        for index, key in enumerate(keys)
    ]
    versions, aliases = [], []
    for index, manifest in enumerate(manifests):
        tenant = tenant_name(index)
        files = [ArtifactFile(f.name, f.sha256, f.size_bytes) for f in manifest.files]
        versions.append(
            VersionEntry(
                f"{tenant}/{ADAPTER}@1", tenant, ADAPTER, 1, manifest.digest, files, rank,
                Role.SERVING,
            )
        )  # fmt: skip
        aliases.append(AliasEntry(tenant, ADAPTER, 1))
    return FleetSnapshot(1, fleet, store_url, versions, aliases, grants)
