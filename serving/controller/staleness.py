"""What a gate report is a proof for, and when the fleet has moved on from it. Pure.

A proof holds for one engine build, one base and one number type. While engines are replaced a fleet
runs two builds: a version needs a proof for each, and an old proof is good again after a downgrade.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from serving.controller.registry.fleet import ObservedEngine


@dataclass(frozen=True, slots=True, order=True)
class Proof:
    """What was measured, or what runs now."""

    engine_build: str
    base_revision: str
    """`BaseModelCard.revision`."""
    dtype: str


@dataclass(frozen=True, slots=True)
class StaleReason:
    """Why a version's proofs do not cover the fleet: its newest one, and what runs now."""

    was: Proof
    now: Proof

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the facts that differ."""
        names = (item.name for item in fields(Proof))
        return tuple(n for n in names if getattr(self.was, n) != getattr(self.now, n))

    def to_json(self) -> dict[str, Any]:
        """For the audit, the version and its report."""
        return {"changed": list(self.changed), "was": asdict(self.was), "now": asdict(self.now)}


def find_stale(proofs: Sequence[Proof], running: Iterable[Proof]) -> StaleReason | None:
    """Why a version must be measured again; None: every running engine is covered.

    `proofs` are newest first. Without any, the version was never measured on an engine (somebody
    overrode the gate before): there is nothing that could be out of date.
    """
    if not proofs:
        return None
    missing = sorted(set(running) - set(proofs))
    return StaleReason(proofs[0], missing[0]) if missing else None


def running_now(
    engines: Iterable[ObservedEngine],
    *,
    base_revision: str,
    now: float,
    timeout_seconds: float,
) -> list[Proof]:
    """What ready engines run, each kind once. An unreachable engine is unknown and asks nothing."""
    found = {
        Proof(engine.report.build, base_revision, engine.report.dtype)
        for engine in engines
        if engine.report.is_ready and engine.is_reachable(now, timeout_seconds)
    }
    return sorted(found)
