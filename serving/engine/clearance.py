"""Whether this engine may answer tenants, and which load probes are meant for its kind.

The controller clears kinds of engines (build, base, number type). One that is not cleared converges
and answers the gate, which measures on it, and nobody else.
"""

from __future__ import annotations

import msgspec

from serving.contract import EngineKind, FleetSnapshot, Probe, VersionEntry


class Clearance:
    """One engine's, for one life.

    Who has served goes on serving: a registry that was restored may have forgotten that it cleared
    this kind, and tenants must not suffer from that.
    """

    def __init__(self, kind: EngineKind) -> None:
        self.kind = kind
        self._has_served = False

    def is_waiting(self, snapshot: FleetSnapshot | None) -> bool:
        """Whether the gate has to measure on this engine first; without a snapshot not known."""
        return not (self._has_served or snapshot is None or is_cleared(snapshot, self.kind))

    def note_served(self) -> None:
        """It was ready for tenants."""
        self._has_served = True


def is_cleared(snapshot: FleetSnapshot, kind: EngineKind) -> bool:
    """Whether engines of this kind may answer tenants. Pure."""
    return snapshot.cleared is None or kind in snapshot.cleared


def choose_probes(snapshot: FleetSnapshot, kind: EngineKind) -> FleetSnapshot:
    """The snapshot with one load probe for each version: the one to ask on this kind. Pure."""
    may_differ = not is_cleared(snapshot, kind)
    versions = [
        msgspec.structs.replace(entry, probe=_choose(entry, kind, may_differ=may_differ), probes=[])
        for entry in snapshot.versions
    ]
    return msgspec.structs.replace(snapshot, versions=versions)


def _choose(entry: VersionEntry, kind: EngineKind, *, may_differ: bool) -> Probe | None:
    """Of its own kind, else of another build alone, else the latest.

    Where the base or the number type changed as well, no recorded answer is the right one: an
    engine that serves no tenants yet checks that answers are finite, and the gate does the rest.
    """
    same = [item.probe for item in entry.probes if item.kind == kind]
    same += [
        item.probe
        for item in entry.probes
        if (item.kind.base_revision, item.kind.dtype) == (kind.base_revision, kind.dtype)
    ]
    if same:
        return same[0]
    return None if entry.probes and may_differ else entry.probe
