"""What the registry knows of LoraAdapters, read at once, in the form that plan and status want."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.contract import VersionState
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.managed import ManagedAdapter
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.kube.lora_adapter import Problem, Resource
from serving.kube.lora_status import Facts, VersionFacts

Key = tuple[str, str]
_MAX_REASONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryView:
    """One look at the registry; `keys` that were not asked for are not in it."""

    tenants: frozenset[str]
    records: Mapping[Key, ManagedAdapter]
    versions: Mapping[str, VersionRow]
    """By id, those of the records."""
    live: Mapping[Key, int]
    reasons: Mapping[str, tuple[str, ...]]
    outages: Mapping[str, tuple[str, ...]]

    def record_of(self, resource: Resource) -> ManagedAdapter | None:
        """What is remembered of this very object; None: nothing, or of another object."""
        if resource.wanted is None:
            return None
        record = self.records.get(resource.wanted.key)
        return record if record is not None and record.uid == resource.uid else None

    def facts(self, resource: Resource, problem: Problem | None) -> Facts:
        """What the object's status is made of."""
        record = self.record_of(resource)
        row = self.versions.get(record.version_id) if record is not None else None
        if record is None or row is None:
            return Facts(problem=problem)
        return Facts(
            is_registered=record.generation == resource.generation,
            version=self._version(row),
            live=self.live.get(record.key),
            problem=problem,
        )

    def _version(self, row: VersionRow) -> VersionFacts:
        override = None
        if row.override_reason is not None:
            override = f"{row.override_by}: {row.override_reason}"
        return VersionFacts(
            id=row.id,
            number=row.number,
            state=State(row.state),
            digest=row.digest,
            verdict=Verdict(row.verdict) if row.verdict else None,
            promote_mode=row.promote_mode,
            findings=tuple(row.findings or ()),
            reasons=self.reasons.get(row.id, ()),
            error=row.error or {},
            override=override,
            outages=self.outages.get(row.id, ()) if row.state == State.LIVE else (),
            recheck_failed=(row.recheck or {}).get("verdict") == Verdict.FAIL,
            has_report=row.verdict is not None,
        )


async def read_view(
    repository: Repository,
    keys: Collection[Key] | None = None,
    *,
    now: float,
    timeout_seconds: float,
) -> RegistryView:
    """All managed adapters, or those of `keys`. `timeout_seconds`: silence of unreachable engines.

    Raises:
        RegistryUnavailable: the registry did not answer.
    """
    managed = repository.managed
    records = await managed.all(keys=keys)
    versions = await managed.versions([record.version_id for record in records])
    judged = [row.id for row in versions if row.verdict is not None]
    return RegistryView(
        tenants=frozenset(row.id for row in await repository.tenants.all()),
        records={record.key: record for record in records},
        versions={row.id: row for row in versions},
        live=await _live(repository, [record.key for record in records]),
        reasons=await _reasons(repository, judged),
        outages=find_outages(await repository.fleet.engines(), now, timeout_seconds),
    )


def find_outages(
    engines: Iterable[ObservedEngine], now: float, timeout_seconds: float
) -> dict[str, tuple[str, ...]]:
    """By version, the reachable engines that took it out of service, in words. Pure."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for engine in engines:
        if not engine.is_reachable(now, timeout_seconds):
            continue
        for item in engine.report.versions:
            if item.state in (VersionState.FAILED, VersionState.QUARANTINED):
                text = f"engine {engine.report.engine_id} cannot serve it: {item.reason}"
                found[item.name].append(f"{text} ({item.detail})" if item.detail else text)
    return {name: tuple(texts) for name, texts in found.items()}


async def _live(repository: Repository, keys: Sequence[Key]) -> dict[Key, int]:
    aliases = await repository.fleet.aliases(keys=keys)
    return {(row.tenant_id, row.adapter): row.number for row in aliases}


async def _reasons(repository: Repository, judged: Sequence[str]) -> dict[str, tuple[str, ...]]:
    states = {State.PASSED, State.FAILED, State.INCONCLUSIVE}
    evidence = await repository.audit.evidence_of_moves(judged, [s.value for s in states])
    return {name: _texts(item.get("reasons")) for name, item in evidence.items()}


def _texts(reasons: Any) -> tuple[str, ...]:
    return tuple(str(item.get("text")) for item in (reasons or ())[:_MAX_REASONS])
