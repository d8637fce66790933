"""What one more remembered snapshot of a large fleet costs."""

from __future__ import annotations

import tracemalloc

from serving.contract import AliasEntry, FleetSnapshot, KeyGrant, TenantEntry
from serving.controller.registry.snapshot_history import SnapshotHistory
from serving.snapshot_delta import HeldSnapshot
from tests.builders.snapshots import version

N_TENANTS, N_SNAPSHOTS = 1000, 8
NAMES = [f"t{n:04}" for n in range(N_TENANTS)]
VERSIONS = [version(f"{name}/support@1") for name in NAMES]


def compiled(revision: int) -> FleetSnapshot:
    """As a controller makes it: entries of versions that did not change are the same objects."""
    versions = list(VERSIONS)
    versions[revision] = version(f"{NAMES[revision]}/support@1", attempt=1)
    return FleetSnapshot(
        revision=revision,
        fleet="base",
        store_url="file:///store",
        versions=versions,
        aliases=[AliasEntry(name, "support", 1 + (name == NAMES[revision])) for name in NAMES],
        keys=[KeyGrant(f"k-{name}", "0" * 64, name, ["inference"]) for name in NAMES],
        tenants=[TenantEntry(name) for name in NAMES],
    )


def test_one_more_snapshot_costs_little_more_than_pointers() -> None:
    history, held = SnapshotHistory(), HeldSnapshot.of(compiled(0))
    history.keep(held)
    tracemalloc.start()
    for revision in range(1, 1 + N_SNAPSHOTS):
        held = HeldSnapshot.of(compiled(revision), held)
        assert len(held.proven_list) == N_TENANTS
        history.keep(held)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert grown / N_SNAPSHOTS / N_TENANTS < 250
