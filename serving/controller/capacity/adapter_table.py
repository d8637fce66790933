"""The table of adapters: the registry's versions joined with all engines' counts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from adapters.errors import NameError_
from adapters.identity import parse_version_id
from serving.contract import (
    INTER_TOKEN_BOUNDS_SECONDS,
    TTFT_BOUNDS_SECONDS,
    AdapterCounts,
    EngineReport,
)
from serving.controller.capacity.latency import merge_counts, quantile
from serving.controller.capacity.schemas import AdapterRowOut

_SUMS = (
    "requests", "prompt_tokens", "completion_tokens", "loads_disk", "loads_cache",
    "evictions_slot", "evictions_cache", "removals", "failures", "slot_seconds", "wait_seconds",
)  # fmt: skip


class VersionFacts(NamedTuple):
    """What the registry knows of one version, as far as the table shows it."""

    name: str
    tenant: str
    adapter: str
    number: int
    state: str | None
    is_live: bool
    verdict: str | None
    rank: int | None


def make_rows(
    versions: Iterable[VersionFacts], reports: Sequence[EngineReport]
) -> list[AdapterRowOut]:
    """One row per version that the registry or an engine knows, in no stated order."""
    counts = merge_reports(reports)
    active, cached = _holders(reports, "active"), _holders(reports, "cached")
    pinned = {name for report in reports for name in report.pinned}
    facts = {version.name: version for version in versions}
    for name in counts.keys() - facts.keys():
        if (stranger := _stranger(name)) is not None:
            facts[name] = stranger
    return [
        _row(version, counts.get(name), active.get(name, ()), cached.get(name, ()), name in pinned)
        for name, version in facts.items()
    ]


def choose_rows(
    rows: Sequence[AdapterRowOut], *, search: str, sort: str, descending: bool
) -> list[AdapterRowOut]:
    """Rows whose name contains `search`, sorted; null comes last either way, ties by name."""
    wanted = search.strip().lower()
    found = sorted((row for row in rows if wanted in row.name), key=lambda row: row.name)
    known = [row for row in found if getattr(row, sort) is not None]
    unknown = [row for row in found if getattr(row, sort) is None]
    known.sort(key=lambda row: getattr(row, sort), reverse=descending)
    return known + unknown


def merge_reports(reports: Iterable[EngineReport]) -> dict[str, AdapterCounts]:
    """Each version's counts summed over engines."""
    merged: dict[str, AdapterCounts] = {}
    for report in reports:
        for count in report.counts:
            known = merged.get(count.name)
            merged[count.name] = count if known is None else _sum(known, count)
    return merged


def _sum(left: AdapterCounts, right: AdapterCounts) -> AdapterCounts:
    sums: dict[str, Any] = {name: getattr(left, name) + getattr(right, name) for name in _SUMS}
    return AdapterCounts(
        name=left.name,
        **sums,
        ttft=merge_counts(left.ttft, right.ttft),
        inter_token=merge_counts(left.inter_token, right.inter_token),
    )


def _holders(reports: Sequence[EngineReport], level: str) -> Mapping[str, list[str]]:
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for report in reports:
        for name in getattr(report, level):
            holders[name].append(report.engine_id)
    return holders


def _stranger(name: str) -> VersionFacts | None:
    try:
        version = parse_version_id(name)
    except NameError_:
        return None
    return VersionFacts(
        name, version.tenant, version.adapter, version.number, None, False, None, None
    )


def _row(
    version: VersionFacts,
    counts: AdapterCounts | None,
    active_on: Sequence[str],
    cached_on: Sequence[str],
    is_pinned: bool,
) -> AdapterRowOut:
    counts = counts or AdapterCounts(name=version.name)
    # These values are our own: checking 10,000 rows of them again would cost most of the answer.
    return AdapterRowOut.model_construct(
        name=version.name,
        tenant=version.tenant,
        adapter=version.adapter,
        version=version.number,
        state=version.state,
        is_live=version.is_live,
        verdict=version.verdict,
        rank=version.rank,
        **{name: getattr(counts, name) for name in _SUMS},
        ttft_p50_seconds=quantile(counts.ttft, TTFT_BOUNDS_SECONDS, 0.5),
        ttft_p99_seconds=quantile(counts.ttft, TTFT_BOUNDS_SECONDS, 0.99),
        inter_token_p99_seconds=quantile(counts.inter_token, INTER_TOKEN_BOUNDS_SECONDS, 0.99),
        active_on=list(active_on),
        cached_on=list(cached_on),
        is_pinned=is_pinned,
    )
