"""A version's load probes by kind of engine, newest first; plain data on its row."""

from __future__ import annotations

from typing import Any

from serving.controller.registry.tables import Json, VersionRow
from serving.controller.staleness import Proof

MAX_KINDS = 3
"""Kept per version: what runs, what it is replaced by, and what one comes from; arbitrary."""


def keep_probe(row: VersionRow, kind: Proof, probe: Json) -> bool:
    """Make this the version's latest probe, and its probe on `kind`; False: it was both."""
    said: Json = {"kind": _to_json(kind), "probe": probe}
    others = [item for item in row.probes or () if item["kind"] != said["kind"]]
    probes: list[Any] = [said, *others][:MAX_KINDS]
    if row.probe == probe and row.probes == probes:
        return False
    row.probe, row.probes = probe, probes
    return True


def replace_probes(row: VersionRow, kind: Proof | None, probe: Json | None) -> None:
    """Forget those of earlier attempts: this one decided. None: no engine answered."""
    row.probe, row.probes = None, None
    if kind is not None and probe is not None:
        keep_probe(row, kind, probe)
    row.probe = probe


def _to_json(kind: Proof) -> Json:
    """As `serving.contract.EngineKind` has it."""
    return {
        "build": kind.engine_build,
        "base_revision": kind.base_revision,
        "dtype": kind.dtype,
    }
