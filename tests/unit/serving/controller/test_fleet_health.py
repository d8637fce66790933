"""What is called trouble, in which order, and why."""

from __future__ import annotations

from serving.contract import VersionReport, VersionState
from serving.controller.fleet_health import (
    REFUSED_SECONDS,
    add_reasons,
    describe_engine,
    explain,
    find_troubles,
)
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.tables import VersionRow
from tests.builders.controller import a_report

NOW = 1_700_000_000.0


def a_row(name: str, state: str, *, since: float = NOW - 60, **more: object) -> VersionRow:
    tenant, _, rest = name.partition("/")
    adapter, _, number = rest.partition("@")
    return VersionRow(
        id=name, tenant_id=tenant, adapter=adapter, number=int(number), state=state,
        state_since=since, **more,
    )  # fmt: skip


def test_outages_come_first_then_refusals_then_what_is_under_way() -> None:
    rows = [
        a_row("acme/a@1", "staging"),
        a_row("acme/b@1", "failed", verdict="FAIL"),
        a_row("acme/c@1", "rejected", since=NOW - 5),
    ]
    out = VersionReport("acme/d@1", "sha256:0", VersionState.FAILED, reason="probe")
    reports = [a_report("engine-0", versions=[out]), a_report("engine-1", versions=[out])]

    troubles = find_troubles(rows, reports, now=NOW)

    kinds = [(trouble.name, trouble.kind) for trouble in troubles]
    assert kinds == [
        ("acme/d@1", "out"), ("acme/c@1", "refused"), ("acme/b@1", "refused"),
        ("acme/a@1", "under_way"),
    ]  # fmt: skip
    assert troubles[0].engines == ["engine-0", "engine-1"]
    assert troubles[0].why == "probe"


def test_a_refusal_of_last_week_is_no_trouble_any_more_but_waiting_always_is() -> None:
    long_ago = NOW - REFUSED_SECONDS - 1
    rows = [
        a_row("acme/a@1", "failed", since=long_ago),
        a_row("acme/b@1", "evaluating", since=long_ago),
    ]

    assert [trouble.name for trouble in find_troubles(rows, [], now=NOW)] == ["acme/b@1"]


def test_a_version_says_what_it_waits_for() -> None:
    progress = {"stage": "verify", "done": 3, "total": 9, "waiting_for": ["engine-1"]}
    row = a_row("acme/a@1", "staging", progress=progress, error={"code": "waiting_for_proof"})

    (trouble,) = find_troubles([row], [], now=NOW)

    assert trouble.why == "waiting_for_proof; verify 3 of 9"
    assert trouble.engines == ["engine-1"]


def test_nothing_known_is_no_reason() -> None:
    assert explain([], None, None) is None
    assert explain([{"code": "rank_too_large"}], None, None) == "rank_too_large"
    many = [{"code": "rank_differs"}, {"code": "shape"}, {"code": "rank_differs"}]
    assert explain(many, None, None) == "rank_differs (2x), shape"


def test_the_gates_reason_is_told_where_nothing_nearer_is() -> None:
    rows = [
        a_row("acme/a@1", "failed"),
        a_row("acme/b@1", "rejected", findings=[{"code": "rank_too_large"}]),
    ]
    troubles = find_troubles(rows, [], now=NOW)
    evidence = {"reasons": [{"code": "regression", "text": "12 of 47 got worse"}]}

    add_reasons(troubles, {"acme/a@1": evidence, "acme/b@1": evidence})

    assert {trouble.name: trouble.why for trouble in troubles} == {
        "acme/a@1": "12 of 47 got worse",
        "acme/b@1": "rank_too_large",
    }


def test_an_engine_is_told_in_numbers_and_its_lag_is_never_negative() -> None:
    versions = [
        VersionReport("acme/a@1", "sha256:0", VersionState.PROVEN),
        VersionReport("acme/b@1", "sha256:0", VersionState.QUARANTINED),
        VersionReport("acme/c@1", "sha256:0", VersionState.FAILED),
        VersionReport("acme/d@1", "sha256:0", VersionState.LOADING),
    ]
    report = a_report(
        "engine-0", versions=versions, active=["acme/a@1"], cached=["acme/a@1"], revision=7
    )

    behind = describe_engine(ObservedEngine(report, NOW), state="ready", revision=9)
    ahead = describe_engine(ObservedEngine(report, NOW), state="ready", revision=5)

    assert (behind.lag, ahead.lag) == (2, 0)
    assert (behind.n_held, behind.n_out) == (1, 2)
    assert (behind.n_active, behind.n_cached) == (1, 1)
