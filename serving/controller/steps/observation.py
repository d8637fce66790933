"""What the engines' reports say about one version. Pure.

Three values, never two: an engine that has not reported lately is unreachable, and what it holds is
unknown; it neither proves nor blocks a switch, and it is never taken as "does not hold it".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serving.contract import EngineReport, VersionReport, VersionState
from serving.controller.clearance import is_waiting
from serving.controller.registry.fleet import ObservedEngine

_BAD = frozenset({VersionState.FAILED, VersionState.QUARANTINED})


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """One engine that could not prove the version, in its own words."""

    engine_id: str
    reason: str
    detail: str | None

    def to_json(self) -> dict[str, Any]:
        """For a version's `error` and for reports."""
        return {"engine": self.engine_id, "reason": self.reason, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Observation:
    """One version on all engines. Ready engines are in exactly one of the first three."""

    proven: tuple[EngineReport, ...] = ()
    failed: tuple[EngineFailure, ...] = ()
    pending: tuple[str, ...] = ()
    """Ready, but not yet with a result of this attempt."""
    holding: tuple[str, ...] = ()
    """Reachable, ready or not, and still naming the version in their reports."""
    behind: tuple[str, ...] = ()
    """Reachable, but not yet at the revision that was asked about."""
    unknown: tuple[str, ...] = ()
    """Unreachable, and holding it when last heard of."""

    @property
    def has_ready_engine(self) -> bool:
        """Whether any ready engine could be asked at all."""
        return bool(self.proven or self.failed or self.pending)

    @property
    def is_proven_everywhere(self) -> bool:
        """Every ready engine has proven it, and there is at least one."""
        return bool(self.proven) and not self.failed and not self.pending


def observe_version(
    engines: Iterable[ObservedEngine],
    name: str,
    *,
    attempt: int,
    now: float,
    timeout_seconds: float,
    revision: int = 0,
    with_waiting: bool = False,
    made_at: float = 0.0,
) -> Observation:
    """Sort engines by what they last said of version `name` in this `attempt` or a later one.

    `with_waiting`: one that waits for the gate, and answers nobody else, is as good as ready.
    `made_at`: no report from before that moment can speak of the version, whatever it leaves out.
    """
    proven: list[EngineReport] = []
    failed: list[EngineFailure] = []
    pending: list[str] = []
    holding: list[str] = []
    behind: list[str] = []
    unknown: list[str] = []
    find = _Finder(name)
    for engine in engines:
        report = engine.report
        found = find(report)
        may_hold = found is not None or (engine.is_abridged and engine.seen_at >= made_at)
        if not engine.is_reachable(now, timeout_seconds):
            unknown += [report.engine_id] if may_hold else []
            continue
        holding += [report.engine_id] if may_hold else []
        behind += [report.engine_id] if report.revision < revision else []
        if engine.is_leaving or not (report.is_ready or (with_waiting and is_waiting(report))):
            continue
        if found is None or found.attempt < attempt:
            pending.append(report.engine_id)
        elif found.state in _BAD:
            failed.append(_failure(report, found))
        elif found.state is VersionState.PROVEN:
            proven.append(report)
        else:
            pending.append(report.engine_id)
    return Observation(
        tuple(proven), tuple(failed), tuple(pending), tuple(holding), tuple(behind), tuple(unknown)
    )


class _Finder:
    """One version in many reports; a list that several of them share is searched once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: dict[int, VersionReport | None] = {}

    def __call__(self, report: EngineReport) -> VersionReport | None:
        key = id(report.versions)
        if key not in self._found:
            items = (item for item in report.versions if item.name == self._name)
            self._found[key] = next(items, None)
        return self._found[key]


def _failure(report: EngineReport, found: VersionReport) -> EngineFailure:
    return EngineFailure(report.engine_id, found.reason or found.state.value, found.detail)
