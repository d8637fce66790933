from __future__ import annotations

from serving.controller.capacity.models import CapacityModels
from tests.fakes.trace_server import Ring

NOW = 1_700_000_000.0


def fed(*names: str, is_gate: bool = False) -> CapacityModels:
    models, ring = CapacityModels(), Ring()
    ring.admit(*names, at=NOW, is_gate=is_gate)
    models.feed_engine("engine-0", ring.events)
    models.feed_fleet(ring.events)
    return models


def misses(models: CapacityModels, slots: int) -> int:
    curve = models.engine_curve("engine-0", 300.0, NOW + 20)
    assert curve is not None
    return curve.misses(slots)


def test_requests_and_not_their_ends_are_counted() -> None:
    models = fed("t/a@1", "t/b@1", "t/a@1", "t/b@1")
    curve = models.engine_curve("engine-0", 300.0, NOW + 20)

    assert curve is not None
    assert (curve.n_requests, curve.n_names) == (4, 2)
    assert [curve.misses(slots) for slots in (1, 2)] == [4, 2]


def test_the_end_of_a_request_makes_its_adapter_the_most_recent() -> None:
    models, ring = CapacityModels(), Ring()
    ring.admit("t/a@1", "t/b@1", "t/a@1", at=NOW)
    a_begins, a_ends, b_begins, b_ends, again, _ = ring.events
    # a is still at work when b comes and goes.
    models.feed_engine("engine-0", [a_begins, b_begins, b_ends, a_ends, again])

    assert misses(models, 1) == 2


def test_the_gates_requests_take_slots_and_are_no_traffic() -> None:
    models, ring = fed("t/a@1"), Ring()
    ring.admit("t/b@1", "t/b@1", at=NOW + 1, is_gate=True)
    ring.admit("t/a@1", at=NOW + 2)
    models.feed_engine("engine-0", ring.events)
    curve = models.engine_curve("engine-0", 300.0, NOW + 20)

    assert curve is not None
    assert curve.n_requests == 2
    # The gate's adapter pushed the tenant's out of a single slot, and not out of two.
    assert [curve.misses(slots) for slots in (1, 2)] == [2, 1]


def test_the_gates_requests_are_nobodys_use() -> None:
    models = fed("t/a@1", "t/b@1", is_gate=True)
    engine = models.engine("engine-0")

    assert engine is not None
    assert engine.traffic.counts(300.0, NOW + 20) == {}


def test_a_version_that_an_engine_lets_go_leaves_the_stack() -> None:
    models, ring = fed("t/a@1", "t/b@1"), Ring()
    models.hold("engine-0", frozenset({"t/a@1", "t/b@1"}))
    models.hold("engine-0", frozenset({"t/a@1"}))
    ring.admit("t/a@1", "t/b@1", at=NOW + 5)
    models.feed_engine("engine-0", ring.events)

    # However large the cache: b is not in it when it comes back, and a still is.
    assert misses(models, 9) == 3


def test_engines_together_have_as_many_misses_as_each_alone() -> None:
    models, ring = fed("t/a@1", "t/b@1", "t/a@1"), Ring("engine-1")
    ring.admit("t/a@1", "t/a@1", at=NOW)
    models.feed_engine("engine-1", ring.events)

    fleet = models.fleet_curve(["engine-0", "engine-1"], 300.0, NOW + 20)

    assert (fleet.n_requests, fleet.misses(1), fleet.misses(2)) == (5, 4, 3)


def test_a_forgotten_engine_has_no_curve() -> None:
    models = fed("t/a@1")
    models.forget_engine("engine-0")

    assert models.engine_curve("engine-0", 300.0, NOW) is None
    assert models.engine("engine-0") is None


def test_larger_fleets_are_weighed_by_tenant_up_to_a_bound() -> None:
    models = fed(*[f"t{n}/a@1" for n in range(8)] * 3)

    curves = models.hashed_curves(300.0, NOW + 60, max_engines=5)

    assert sorted(curves) == [1, 2, 3, 4]
    # The more engines, the fewer tenants on each.
    assert curves[4].misses(2) < curves[1].misses(2) == 24
