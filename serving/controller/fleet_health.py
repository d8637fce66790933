"""What an operator looks at first: engines, how far behind they are, and what is stuck or refused.

Small whatever the fleet holds: versions are counted, and only those in trouble are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from serving.contract import EngineReport, VersionState
from serving.controller.lifecycle import State
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.tables import VersionRow

MAX_TROUBLES = 100
REFUSED_SECONDS = 24 * 3600.0
"""How long a refused version is called trouble; arbitrary: a working day later it was decided."""
UNDER_WAY = frozenset({State.VALIDATING, State.EVALUATING, State.STAGING})
REFUSED = frozenset({State.REJECTED, State.FAILED, State.INCONCLUSIVE})
_OUT = (VersionState.FAILED, VersionState.QUARANTINED)

EngineState = Literal["ready", "starting", "waiting_for_gate", "stopping", "unreachable"]
TroubleKind = Literal["out", "refused", "under_way"]
_ORDER: tuple[TroubleKind, ...] = ("out", "refused", "under_way")


class EngineHealth(BaseModel):
    """One engine in one line; as it last reported."""

    id: str
    state: EngineState
    seen_at: float
    build: str
    dtype: str
    revision: int
    lag: int
    """Snapshot revisions that it is behind."""
    gpu_slots: int
    cpu_slots: int
    n_active: int
    n_cached: int
    n_pinned: int
    n_held: int
    """Versions that it holds ready (proven)."""
    n_out: int
    """Versions that failed to load or were quarantined."""
    hot: dict[str, int]
    unhooked: dict[str, str]
    """Measurements that this engine's vLLM does not give, and why."""
    waits_for: str | None = None
    """What the gate still has to measure before tenants reach it."""


class Trouble(BaseModel):
    """One version that waits, was refused, or that an engine cannot serve."""

    name: str
    tenant: str
    adapter: str
    version: int
    kind: TroubleKind
    state: str
    verdict: str | None
    since: float | None
    engines: list[str]
    why: str | None


class FleetHealth(BaseModel):
    """The fleet at a glance."""

    at: float
    is_ready: bool
    reasons: list[str]
    """Why the controller is not ready; as in /readyz."""
    revision: int
    engines: list[EngineHealth]
    versions: dict[str, int]
    """How many are in each state."""
    n_troubles: int
    troubles: list[Trouble]
    """At most `MAX_TROUBLES`: out on an engine, refused lately, under way; newest first in each."""


def describe_engine(
    engine: ObservedEngine,
    *,
    state: EngineState,
    revision: int,
    waits_for: str | None = None,
) -> EngineHealth:
    """One engine's line; `revision` is the snapshot's present one."""
    report = engine.report
    states = [item.state for item in report.versions]
    return EngineHealth(
        id=report.engine_id,
        state=state,
        seen_at=engine.seen_at,
        build=report.build,
        dtype=report.dtype,
        revision=report.revision,
        lag=max(0, revision - report.revision),
        gpu_slots=report.gpu_slots,
        cpu_slots=report.cpu_slots,
        n_active=len(report.active),
        n_cached=len(report.cached),
        n_pinned=len(report.pinned),
        n_held=states.count(VersionState.PROVEN),
        n_out=sum(states.count(out) for out in _OUT),
        hot=report.hot,
        unhooked=report.unhooked,
        waits_for=waits_for,
    )


def find_troubles(
    rows: Iterable[VersionRow], reports: Sequence[EngineReport], *, now: float
) -> list[Trouble]:
    """All: `rows` are versions under way or refused, `reports` are those of reachable engines."""
    found = [*_out_on_engines(reports), *(_of_row(row) for row in rows if _counts(row, now))]
    return sorted(found, key=lambda one: (_ORDER.index(one.kind), -(one.since or now), one.name))


def add_reasons(troubles: Iterable[Trouble], evidence: Mapping[str, Mapping[str, Any]]) -> None:
    """Let those that the gate refused say why; `evidence` is the audit's, by version."""
    for trouble in troubles:
        reasons = evidence.get(trouble.name, {}).get("reasons", ())
        if trouble.why is None and reasons:
            trouble.why = str(reasons[0].get("text") or reasons[0].get("code"))


def _counts(row: VersionRow, now: float) -> bool:
    return State(row.state) in UNDER_WAY or now - row.state_since <= REFUSED_SECONDS


def _of_row(row: VersionRow) -> Trouble:
    is_under_way = State(row.state) in UNDER_WAY
    return Trouble(
        name=row.id,
        tenant=row.tenant_id,
        adapter=row.adapter,
        version=row.number,
        kind="under_way" if is_under_way else "refused",
        state=row.state,
        verdict=row.verdict,
        since=row.state_since,
        engines=list((row.progress or {}).get("waiting_for", ())) if is_under_way else [],
        why=explain(row.findings or (), row.error, row.progress if is_under_way else None),
    )


def explain(
    findings: Sequence[Mapping[str, Any]],
    error: Mapping[str, Any] | None,
    progress: Mapping[str, Any] | None,
) -> str | None:
    """Why a version is where it is, in a few words; None: it says nothing of it."""
    words = []
    # One finding per module is common, and says the same each time.
    codes = Counter(str(finding["code"]) for finding in findings if finding.get("code"))
    if codes:
        words.append(", ".join(f"{code} ({n}x)" if n > 1 else code for code, n in codes.items()))
    if error:
        words.append(str(error.get("blocked") or error.get("detail") or error.get("code") or ""))
    if progress and progress.get("stage"):
        total = progress.get("total")
        part = f" {progress.get('done', 0)} of {total}" if total else ""
        words.append(f"{progress['stage']}{part}")
    return "; ".join(word for word in words if word) or None


def _out_on_engines(reports: Sequence[EngineReport]) -> list[Trouble]:
    found: dict[tuple[str, str], Trouble] = {}
    for report in reports:
        for item in report.versions:
            if item.state not in _OUT:
                continue
            tenant, _, rest = item.name.partition("/")
            adapter, _, number = rest.partition("@")
            trouble = found.setdefault(
                (item.name, item.state.value),
                Trouble(
                    name=item.name,
                    tenant=tenant,
                    adapter=adapter,
                    version=int(number),
                    kind="out",
                    state=item.state.value,
                    verdict=None,
                    since=None,
                    engines=[],
                    why=": ".join(part for part in (item.reason, item.detail) if part) or None,
                ),
            )
            trouble.engines.append(report.engine_id)
    return list(found.values())
