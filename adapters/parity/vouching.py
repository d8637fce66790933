"""What vouches for the files beside themselves: the report's first line. Pure.

Engine and standalone model read the same files, so that both agree says nothing of an export gone
wrong. Evidence from outside is, in this order: a training fingerprint, an existing deployment's
answers, gold answers with a threshold, the live version on the same gold.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapters.parity.export_evidence import ExportStatus
from adapters.parity.gate_plan import Measurements
from adapters.parity.policy import GatePolicy, Runner


class Voucher(StrEnum):
    """They complete the sentence "the files are vouched for by ..."."""

    FINGERPRINT = "fingerprint"
    DEPLOYMENT = "deployment"
    GOLD = "gold"
    LIVE = "live"
    NOTHING = "nothing"
    MISMATCH = "mismatch"
    """Nobody: the fingerprint speaks against them."""


@dataclass(frozen=True, slots=True)
class Vouching:
    """Who vouches, in a sentence."""

    by: Voucher
    line: str

    @property
    def is_independent(self) -> bool:
        """Somebody does, and not the files themselves."""
        return self.by not in {Voucher.NOTHING, Voucher.MISMATCH}


def vouch(measured: Measurements, policy: GatePolicy) -> Vouching:
    """The strongest evidence that there is for link A, training to files."""
    export = measured.export
    if export.status is ExportStatus.MISMATCHED:
        return Vouching(Voucher.MISMATCH, export.first_line())
    if export.status is ExportStatus.MATCHED:
        return Vouching(Voucher.FINGERPRINT, export.first_line())
    others = (_deployment(measured), _gold(measured, policy), _live(measured))
    found = next((item for item in others if item is not None), None)
    if found is None:
        return Vouching(Voucher.NOTHING, export.first_line())
    if export.status is ExportStatus.UNDECIDED:
        return Vouching(found.by, f"{found.line} {export.first_line()}")
    return found


def _deployment(measured: Measurements) -> Vouching | None:
    serving = measured.task.serving
    if measured.runner != Runner.OPENAI or serving is None or serving.total.is_regression is None:
        return None
    if serving.regressions:
        return None
    line = (
        f"An existing deployment's answers vouch for the files: over {serving.total.n} gold cases "
        f"the engine does not do worse than the deployment."
    )
    return Vouching(Voucher.DEPLOYMENT, line)


def _gold(measured: Measurements, policy: GatePolicy) -> Vouching | None:
    serving = measured.task.serving
    if not policy.segment_thresholds or serving is None or serving.unknown_thresholds:
        return None
    bound = [item for item in serving.segments if item.threshold is not None]
    if not bound or any(item.is_below_threshold is not False for item in bound):
        return None
    worst = min(bound, key=lambda item: item.after_rate or 0.0)
    line = (
        f"Gold answers vouch for the files: {len(bound)} segments are above their thresholds, the "
        f"lowest {worst.segment} with {worst.after_rate or 0.0:.1%} of {worst.n} cases."
    )
    return Vouching(Voucher.GOLD, line)


def _live(measured: Measurements) -> Vouching | None:
    live = measured.task.live
    if live is None or live.total.is_regression is not False or live.regressions:
        return None
    if live.total.is_above_margin:
        return None
    line = (
        f"The live version vouches for the files, no fingerprint does: over {live.total.n} gold "
        f"cases this version does not do worse than {live.before_name}."
    )
    return Vouching(Voucher.LIVE, line)
