"""Snapshots that were given out lately, by tag: what engines' deltas and short reports refer to."""

from __future__ import annotations

from serving.abridged_report import expand
from serving.contract import EngineReport
from serving.snapshot_delta import HeldSnapshot

_N_KEPT = 32
"""Engines follow within seconds; one that is further behind is sent the whole snapshot. Arbitrary.
They share what is the same in them, so that one more costs pointers alone."""


class SnapshotHistory:
    """The latest snapshots of one controller process; empty after a start."""

    def __init__(self) -> None:
        self._held: dict[str, HeldSnapshot] = {}

    def keep(self, held: HeldSnapshot) -> None:
        """Remember one that is about to be given out."""
        self._held.pop(held.tag, None)
        self._held[held.tag] = held
        while len(self._held) > _N_KEPT:
            del self._held[next(iter(self._held))]

    def find(self, tag: str) -> HeldSnapshot | None:
        """The snapshot with that tag; None: not of this process, or too long ago."""
        return self._held.get(tag)

    def expand(self, report: EngineReport) -> EngineReport:
        """The whole report; as it is where it refers to a snapshot that is not known."""
        held = self._held.get(report.rest_proven_in)
        return report if held is None else expand(report, held)
