"""One of our engines under a played controller, with adapters of several ranks: for cold loads.

Unlike `serving.tuning.rig`, it can be told of a version, and to give one up, while it runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.base_folder import find_base_folder
from adapters.base_model import read_base_model
from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from bench.played_controller import PlayedController, running_controller
from bench.server import Server, running_server
from serving.contract import (
    AliasEntry,
    ArtifactFile,
    FleetSnapshot,
    KeyGrant,
    Role,
    VersionEntry,
    hash_key,
)
from serving.engine.launch import prepare_launch
from serving.engine.profile import EngineProfile
from serving.settings import EngineSettings
from serving.tuning.rig import OnStage
from serving.tuning.rig_files import profile_values
from serving.tuning.synthetic_adapter import write_synthetic_adapter

_SECRET, KEY, TENANT, FLEET = "bench-secret", "lp_" + "b" * 43, "bench", "base"
_POLL_SECONDS = 0.001
_WAIT_SECONDS = 60.0


class ColdEngineFailed(Exception):
    """The engine did not do in time what it was told; the text says what."""


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter in the store, and the folder that it came from."""

    name: str
    """The tenant's name for it: `rank16-0`."""
    entry: VersionEntry
    source: Path

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum(file.size_bytes for file in self.entry.files)


@dataclass(frozen=True, slots=True)
class ColdEngine:
    """A running engine, its controller, and what is in the store."""

    server: Server
    controller: PlayedController
    folder: Path
    adapters: dict[int, list[StoredAdapter]] = field(default_factory=dict)
    """By rank; the last of each rank is in the store alone until `want` names it."""

    def want(self, adapter: StoredAdapter) -> None:
        """Name a version and its alias in the snapshot."""
        snapshot = self.controller.snapshot
        self.controller.publish(
            versions=[*snapshot.versions, adapter.entry],
            aliases=[*snapshot.aliases, AliasEntry(TENANT, adapter.name, 1)],
        )

    def give_up(self, adapter: StoredAdapter) -> None:
        """Take both out of the snapshot again."""
        snapshot = self.controller.snapshot
        self.controller.publish(
            versions=[entry for entry in snapshot.versions if entry.name != adapter.entry.name],
            aliases=[alias for alias in snapshot.aliases if alias.adapter != adapter.name],
        )

    def facts(self) -> dict[str, Any]:
        """What the worker published last."""
        path = self.folder / "run" / "worker-facts.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def wait_removed(self, adapter: StoredAdapter) -> None:
        """Until the worker has freed the version's slot and memory.

        Raises:
            ColdEngineFailed: not in time.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while adapter.entry.name in self.facts().get("cached", ()):
            if time.monotonic() > deadline:
                raise ColdEngineFailed(f"{adapter.entry.name} was not removed")
            time.sleep(_POLL_SECONDS)

    def wait_deleted(self, adapter: StoredAdapter) -> None:
        """Until the version's local copy is gone, so that the next fetch is one.

        Raises:
            ColdEngineFailed: not in time.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.local_folder(adapter) is not None:
            if time.monotonic() > deadline:
                raise ColdEngineFailed(f"the copy of {adapter.entry.name} was not deleted")
            time.sleep(10 * _POLL_SECONDS)

    def local_folder(self, adapter: StoredAdapter) -> Path | None:
        """The engine's own copy of an adapter; None when there is none."""
        digest = adapter.entry.digest.rpartition(":")[2]
        return next((path for path in self.folder.glob(f"*/*{digest}*") if path.is_dir()), None)


def store_adapters(
    profile: EngineProfile, folder: Path, *, ranks: Sequence[int], n: int
) -> dict[int, list[StoredAdapter]]:
    """Write `n` synthetic adapters of each rank, and put them into the store `folder`/store."""
    card = read_base_model(find_base_folder(profile.model))
    store = ArtifactStore.from_url(f"file://{folder / 'store'}")
    stored: dict[int, list[StoredAdapter]] = {rank: [] for rank in ranks}
    for rank in ranks:
        for number in range(n):
            name = f"rank{rank}-{number}"
            source = write_synthetic_adapter(
                folder / "sources" / name, card, rank=rank, targets=profile.target_modules,
                seed=1000 * rank + number,
            )  # fmt: skip
            manifest = manifest_of_folder(source)
            asyncio.run(store.put(manifest, source))
            files = [ArtifactFile(f.name, f.sha256, f.size_bytes) for f in manifest.files]
            entry = VersionEntry(
                f"{TENANT}/{name}@1", TENANT, name, 1, manifest.digest, files, rank, Role.SERVING
            )
            stored[rank].append(StoredAdapter(name, entry, source))
    return stored


@contextmanager
def running_cold_engine(
    profile: EngineProfile,
    folder: Path,
    adapters: dict[int, list[StoredAdapter]],
    *,
    port: int,
    on_stage: OnStage,
) -> Iterator[ColdEngine]:
    """Start it with all but the last adapter of each rank.

    Raises:
        ServerFailed: it did not come up.
    """
    first = [adapter for stored in adapters.values() for adapter in stored[:-1]]
    grant = KeyGrant("k", hash_key(KEY, cluster_secret=_SECRET), TENANT, ["inference", "base"])
    snapshot = FleetSnapshot(
        1, FLEET, f"file://{folder / 'store'}", [adapter.entry for adapter in first],
        [AliasEntry(TENANT, adapter.name, 1) for adapter in first], [grant],
    )  # fmt: skip
    profile_file = folder / "profile.yaml"
    profile_file.write_text(json.dumps(profile_values(profile)))
    with running_controller(PlayedController(snapshot, cluster_secret=_SECRET)) as controller:
        settings = EngineSettings(
            engine_dir=folder / "engine",
            cluster_secret=_SECRET,
            engine_port=port,
            controller_url=controller.url,
            profile=profile_file,
            fleet=FLEET,
            probe_interval_seconds=0.0,
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LORAPLANE_")}
        launch = prepare_launch(settings, kept)
        url = f"http://127.0.0.1:{port}"
        log = folder / "engine.log"
        with running_server(
            launch.command, launch.environment, url=url, log=log, ready="/ready", on_stage=on_stage
        ) as server:
            yield ColdEngine(server, controller, folder / "engine", adapters)
