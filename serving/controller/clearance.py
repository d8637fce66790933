"""When engines of a new kind may answer tenants (`upgrade: gate`). Pure.

A kind is an engine build, a base and a number type. It is cleared once no live version fares worse
on it than what the version went live with, and then it stays cleared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.contract import EngineReport
from serving.controller.lifecycle import Verdict
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.staleness import Proof, kind_of

UpgradeMode = Literal["probe", "gate"]
GATE: UpgradeMode = "gate"
MODES: tuple[UpgradeMode, ...] = ("probe", "gate")
MAX_BLOCKERS = 20
"""How many are named; the number of all is told beside them."""
_RANK = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a live version stands on one kind of engine."""

    version: str
    needed: Verdict | None
    """The verdict that it went live with; a person may have overruled it."""
    found: Verdict | None
    """Its latest verdict on this kind; None: not measured yet."""
    why: str | None = None

    @property
    def is_blocking(self) -> bool:
        """Whether the kind stays out for its sake."""
        if self.found is None:
            return True
        return _RANK[self.found] < (0 if self.needed is None else _RANK[self.needed])

    def to_json(self) -> dict[str, Any]:
        """For the API and the audit."""
        found = None if self.found is None else self.found.value
        return {"version": self.version, "verdict": found, "why": self.why}


def blockers(standings: Iterable[Standing]) -> list[Standing]:
    """Those for whose sake a kind stays out; the measured ones, which need a person, first."""
    found = [item for item in standings if item.is_blocking]
    return sorted(found, key=lambda item: (item.found is None, item.version))


def asking_kinds(
    engines: Iterable[ObservedEngine], *, own_base: str, now: float, timeout_seconds: float
) -> dict[Proof, bool]:
    """Kinds of reachable engines that serve tenants (True) or wait for the gate (False)."""
    found: dict[Proof, bool] = {}
    for engine in engines:
        report = engine.report
        is_ending = report.stopping or engine.is_leaving
        if is_ending or not engine.is_reachable(now, timeout_seconds):
            continue
        if report.is_ready or report.waits_for_gate:
            kind = kind_of(report, own_base=own_base)
            found[kind] = found.get(kind, False) or report.is_ready
    return dict(sorted(found.items()))


def why_clear(is_serving: bool, standings: Sequence[Standing]) -> str | None:
    """Why a kind is cleared now; None: it is not.

    An engine that is ready answers tenants already: it was cleared once, or nothing was asked of it
    then. To shut it out now would be an outage, and prove nothing.
    """
    if is_serving:
        return "an engine of this kind serves tenants already"
    if not standings:
        return "no live version has been measured anywhere"
    if blockers(standings):
        return None
    return f"no live version of {len(standings)} fares worse on it"


def why_not_measurable(kind: Proof, *, own_base: str) -> str | None:
    """Why the gate of this controller cannot measure on a kind; None: it can."""
    if kind.base_revision == own_base:
        return None
    return (
        f"the engine serves base {kind.base_revision[:12]}, this controller's gate measures "
        f"against {own_base[:12] or 'none'}"
    )


def is_waiting(report: EngineReport) -> bool:
    """Whether this engine could serve and waits for its kind to be cleared."""
    return report.waits_for_gate and not report.is_ready and not report.stopping
