from __future__ import annotations

import pytest

from serving.capacity.curve import make_curve
from serving.capacity.plan import Goal, choose_plan
from serving.contract import AdapterCounts, EngineMemory, LoadTimes
from serving.controller.capacity.adapter_table import VersionFacts
from serving.controller.capacity.engine_view import MAX_ADAPTERS, engine_view
from serving.controller.capacity.plan_view import (
    curve_view,
    fleet_facts,
    load_seconds,
    plan_view,
    plan_without_engines,
    tenant_shares,
)
from tests.builders.controller import a_report

CURVE = make_curve({1: 40, 3: 50}, n_requests=100, n_cold=10, seconds=60.0, n_names=10)


def test_facts_are_what_most_engines_have() -> None:
    reports = [
        a_report("a", gpu_slots=8, memory=None),
        a_report("b", gpu_slots=8, memory=EngineMemory(100, 10, 1000), hot_90={"5m": 3}),
        a_report("c", gpu_slots=4),
    ]
    live = VersionFacts("t/a@1", "t", "a", 1, "live", True, "PASS", 8)

    facts = fleet_facts(reports, [live, live._replace(name="t/a@2", is_live=False)])

    assert (facts.n_engines, facts.gpu_slots, facts.slot_bytes) == (3, 8, 100)
    assert facts.ranks == {"t/a@1": 8}
    with pytest.raises(ValueError, match="no reports"):
        fleet_facts([], [])


def test_tenants_share_the_requests_of_all_engines() -> None:
    counts = [AdapterCounts(name="acme/a@1", requests=30), AdapterCounts(name="x/b@1", requests=0)]
    other = [AdapterCounts(name="globex/b@1", requests=10)]

    shares = tenant_shares([a_report("a", counts=counts), a_report("b", counts=other)])

    assert shares == {"acme": 0.75, "globex": 0.25}
    assert tenant_shares([a_report()]) == {}


def test_load_times_are_means_over_all_loads() -> None:
    reports = [
        a_report("a", load_times={"disk": LoadTimes(1, 1.0)}),
        a_report("b", load_times={"disk": LoadTimes(3, 1.0), "cache": LoadTimes(0, 0.0)}),
    ]

    assert load_seconds(reports) == {"disk": 0.5, "cache": None}


def test_a_curve_shows_added_time_only_where_loads_were_timed() -> None:
    timed = curve_view(CURVE, cpu_slots=100, loads={"disk": 1.0, "cache": 0.1})
    untimed = curve_view(CURVE, cpu_slots=100, loads={"disk": None, "cache": 0.1})

    assert [point.slots for point in timed.points] == list(range(1, 12))
    assert timed.points[0].added_seconds == pytest.approx(0.6 * 0.1 + 0.1 * 1.0)
    assert untimed.points[0].added_seconds is None


def test_slots_that_run_today_are_on_the_curve() -> None:
    shown = curve_view(CURVE, cpu_slots=1, loads={}, show_slots=[64])

    assert 64 in [point.slots for point in shown.points]


def test_a_plan_is_shown_with_what_runs_now() -> None:
    facts = fleet_facts([a_report(gpu_slots=1)], [])
    curve = make_curve({1: 400, 3: 590}, n_requests=1000, n_cold=10, seconds=60.0, n_names=10)

    reached = plan_view(choose_plan({1: curve}, facts, Goal(miss_ratio=0.05)), facts)
    missed = plan_view(choose_plan({1: curve}, facts, Goal(miss_ratio=0.001)), facts)

    assert (reached.is_reachable, reached.now.gpu_slots, reached.now.miss_ratio) == (True, 1, 0.6)
    assert reached.recommended is not None
    assert reached.recommended.gpu_slots == 3
    assert (missed.is_reachable, missed.recommended, missed.predicted) == (False, None, None)
    assert plan_without_engines(Goal()).is_reachable is None


def test_an_engines_view_names_its_busiest_adapters() -> None:
    counts = [AdapterCounts(name=f"t/a@{n}", requests=n) for n in range(1, MAX_ADAPTERS + 11)]

    view = engine_view(a_report(counts=counts, trace_position=7))

    assert len(view.adapters) == MAX_ADAPTERS
    assert view.adapters[0]["requests"] == MAX_ADAPTERS + 10
    assert (view.memory, view.curve, view.trace.next) == (None, None, None)
    assert view.load_seconds.disk is None
