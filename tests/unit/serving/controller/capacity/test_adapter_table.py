from __future__ import annotations

import pytest

from serving.contract import AdapterCounts
from serving.controller.capacity.adapter_table import VersionFacts, choose_rows, make_rows
from serving.controller.capacity.schemas import AdapterRowOut
from tests.builders.controller import a_report


def facts(name: str, **about: object) -> VersionFacts:
    tenant, _, rest = name.partition("/")
    adapter, _, number = rest.partition("@")
    return VersionFacts(name, tenant, adapter, int(number), "live", True, "PASS", 8)._replace(
        **about
    )


def row_of(rows: list[AdapterRowOut], name: str) -> AdapterRowOut:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_counts_of_all_engines_are_one_row() -> None:
    one = AdapterCounts(name="acme/a@1", requests=10, ttft=[10] + [0] * 11, slot_seconds=2.5)
    two = AdapterCounts(name="acme/a@1", requests=30, ttft=[0, 30] + [0] * 10, evictions_slot=3)
    reports = [
        a_report("engine-0", counts=[one], active=["acme/a@1"], pinned=["acme/a@1"]),
        a_report("engine-1", counts=[two], cached=["acme/a@1"]),
    ]

    row = row_of(make_rows([facts("acme/a@1")], reports), "acme/a@1")

    assert (row.requests, row.evictions_slot, row.slot_seconds) == (40, 3, 2.5)
    assert (row.active_on, row.cached_on, row.is_pinned) == (["engine-0"], ["engine-1"], True)
    assert row.ttft_p50_seconds == pytest.approx(0.025 + 0.025 * 10 / 30)
    assert row.inter_token_p99_seconds is None


def test_a_version_without_requests_has_zeros_and_no_latency() -> None:
    (row,) = make_rows([facts("acme/a@1", state="failed", is_live=False, verdict="FAIL")], [])

    assert (row.requests, row.ttft_p99_seconds) == (0, None)
    assert (row.state, row.is_live, row.verdict) == ("failed", False, "FAIL")


def test_what_only_an_engine_knows_has_no_state() -> None:
    report = a_report(counts=[AdapterCounts(name="acme/x@4", requests=1)])

    row = row_of(make_rows([], [report]), "acme/x@4")

    assert (row.tenant, row.adapter, row.version, row.state) == ("acme", "x", 4, None)


def test_rows_are_searched_and_sorted_with_unknown_values_last() -> None:
    counts = [
        AdapterCounts(name=f"acme/a@{n}", requests=n, ttft=[0] * n + [5] + [0] * (11 - n))
        for n in (1, 2)
    ]
    rows = make_rows(
        [facts("acme/a@1"), facts("acme/a@2"), facts("acme/a@3"), facts("globex/b@1")],
        [a_report(counts=counts)],
    )

    up = choose_rows(rows, search="ACME/", sort="ttft_p50_seconds", descending=False)
    down = choose_rows(rows, search="", sort="ttft_p50_seconds", descending=True)

    assert [row.name for row in up] == ["acme/a@1", "acme/a@2", "acme/a@3"]
    assert [row.name for row in down] == ["acme/a@2", "acme/a@1", "acme/a@3", "globex/b@1"]


def test_ties_are_in_the_order_of_names() -> None:
    rows = make_rows([facts("acme/c@1"), facts("acme/a@1"), facts("acme/b@1")], [])

    chosen = choose_rows(rows, search="", sort="requests", descending=True)

    assert [row.name for row in chosen] == ["acme/a@1", "acme/b@1", "acme/c@1"]
