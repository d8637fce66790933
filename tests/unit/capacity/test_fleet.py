"""Curves for fleets that are not there: each tenant on one engine."""

from __future__ import annotations

from collections import Counter

import pytest

from serving.capacity.fleet import FleetLocality, engine_of_tenant
from serving.capacity.locality import Locality
from tests.builders.request_traces import zipf_names

TENANTS = [f"tenant-{index}" for index in range(4000)]


def test_a_tenants_engine_is_the_same_in_every_process() -> None:
    engines = [engine_of_tenant(f"t{index}", 4) for index in range(10)]

    assert engines == [3, 2, 0, 0, 0, 0, 0, 0, 3, 3]


def test_tenants_are_spread_evenly() -> None:
    counts = Counter(engine_of_tenant(tenant, 5) for tenant in TENANTS)

    assert set(counts) == set(range(5))
    assert all(700 < count < 900 for count in counts.values())


def test_one_engine_more_moves_its_share_of_tenants_and_only_to_itself() -> None:
    moved = [
        engine_of_tenant(tenant, 5)
        for tenant in TENANTS
        if engine_of_tenant(tenant, 5) != engine_of_tenant(tenant, 4)
    ]

    assert set(moved) == {4}
    assert 700 < len(moved) < 900


def test_no_engines_is_refused() -> None:
    with pytest.raises(ValueError, match="0 engines"):
        engine_of_tenant("acme", 0)


def test_the_fleets_misses_are_those_of_its_engines() -> None:
    names = zipf_names(60, 3000, seed=1)
    fleet, engines = FleetLocality((1, 3)), [Locality() for _ in range(3)]
    for at, name in enumerate(names):
        fleet.access(name, float(at))
        engines[engine_of_tenant(name.partition("/")[0], 3)].access(name, float(at))

    three, one = fleet.curve(3, 3600.0, 3000.0), fleet.curve(1, 3600.0, 3000.0)

    alone = [engine.curve(3600.0, 3000.0) for engine in engines]
    assert [three.misses(slots) for slots in range(60)] == [
        sum(curve.misses(slots) for curve in alone) for slots in range(60)
    ]
    assert one.n_requests == three.n_requests == 3000
    assert three.miss_ratio(8) < one.miss_ratio(8)  # type: ignore[operator]


def test_touch_and_forget_reach_the_tenants_engine() -> None:
    fleet = FleetLocality((2,))
    for name in ("acme/a@1", "acme/b@1"):
        fleet.access(name, 1.0)

    fleet.touch("acme/a@1", 2.0)
    fleet.access("acme/a@1", 3.0)
    fleet.forget("acme/b@1")
    fleet.access("acme/b@1", 4.0)

    curve = fleet.curve(2, 300.0, 5.0)
    assert (curve.n_requests, curve.n_cold, curve.misses(1)) == (4, 3, 3)


def test_an_engine_count_that_is_not_followed_is_refused() -> None:
    with pytest.raises(KeyError):
        FleetLocality((1, 2)).curve(3, 300.0, 0.0)


def test_what_nobody_counts_still_pushes_out_in_the_tenants_engine() -> None:
    fleet = FleetLocality((1, 2))
    fleet.access("acme/a@1", 1.0)
    fleet.occupy("acme/b@1")
    fleet.access("acme/a@1", 2.0)

    for count in (1, 2):
        curve = fleet.curve(count, 300.0, 3.0)
        assert (curve.n_requests, curve.misses(1), curve.misses(2)) == (2, 2, 1)
