"""What a gate report is a proof for, and when the fleet has moved on from it. Pure.

A proof holds for one engine build, one base and one number type. While engines are replaced a fleet
runs two builds: a version needs a proof for each, and an old proof is good again after a downgrade.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from serving.contract import EngineReport
from serving.controller.registry.fleet import ObservedEngine


@dataclass(frozen=True, slots=True, order=True)
class Proof:
    """What was measured, or what runs now."""

    engine_build: str
    base_revision: str
    """`BaseModelCard.revision`."""
    dtype: str

    def to_json(self) -> dict[str, str]:
        """For the audit and the API."""
        return asdict(self)


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


def kind_of(report: EngineReport, *, own_base: str) -> Proof:
    """What a proof on this engine holds for; `own_base` where an old one says none."""
    return Proof(report.build, report.base_revision or own_base, report.dtype)


def running_now(
    engines: Iterable[ObservedEngine],
    *,
    base_revision: str,
    now: float,
    timeout_seconds: float,
    is_gated: bool = False,
) -> list[Proof]:
    """What ready engines run, each kind once. An unreachable engine is unknown and asks nothing.

    `base_revision` is the controller's own base, and taken for everybody's; with `is_gated` an
    engine's own word counts, and one of another base is left out: nothing can be measured on it.
    """
    found = set()
    for engine in engines:
        report = engine.report
        is_serving = report.is_ready and not engine.is_leaving
        if not is_serving or not engine.is_reachable(now, timeout_seconds):
            continue
        kind = kind_of(report, own_base=base_revision)
        if not is_gated:
            kind = replace(kind, base_revision=base_revision)
        if kind.base_revision == base_revision:
            found.add(kind)
    return sorted(found)
