"""What the gate asks of a version: its suite, without the cases that were known from training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapters.parity.contamination import (
    ContaminationReport,
    Excluded,
    exclude_leaks,
)
from adapters.parity.policy import GatePolicy
from adapters.parity.suite import Suite, builtin_probe, parse_suite
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext


@dataclass(frozen=True, slots=True)
class Asked:
    """The cases to ask, and which were left out and why."""

    suite: Suite
    stored_digest: str
    suite_id: str | None = None
    contamination: ContaminationReport | None = None
    excluded: tuple[Excluded, ...] = ()


async def load_asked(context: StepContext, row: VersionRow, policy: GatePolicy) -> Asked:
    """The version's suite, or the built-in probe suite where it came without.

    The fraction that refuses a suite is the policy's of today, not that of the upload.

    Raises:
        SuiteInvalid: the stored suite is none by today's rules.
    """
    if row.suite_id is None:
        suite = builtin_probe()
        return Asked(suite, suite.digest)
    stored = await context.repository.tenants.suite(row.suite_id)
    suite = parse_suite(stored.content.encode())
    report = None
    if stored.contamination is not None:
        report = ContaminationReport.from_json(stored.contamination)
        limit = policy.contamination.max_fraction
        report = replace(report, rules=replace(report.rules, max_fraction=limit))
    kept, excluded = exclude_leaks(suite, report)
    return Asked(kept, suite.digest, stored.id, report, excluded)
