"""Curves over sliding windows: exact for few names, a sample of the names for many."""

from __future__ import annotations

import pytest

from serving.capacity.locality import Locality
from tests.builders.request_traces import lru_misses, zipf_names


def fed(names: list[str], **options: int) -> Locality:
    locality = Locality(**options)
    for index, name in enumerate(names):
        locality.access(name, index / 100)
    return locality


def test_a_zipf_trace_misses_as_a_simulated_lru_does() -> None:
    names = zipf_names(40, 2000, seed=3)
    steps = [("access", name) for name in names]

    curve = fed(names).curve(3600.0, 20.0)

    assert (curve.n_requests, curve.n_cold, curve.n_names) == (2000, 40, 40)
    for slots in (1, 8, 24, 40):
        assert curve.misses(slots) == lru_misses(steps, slots)


def test_a_touch_is_recency_and_no_request() -> None:
    locality = Locality()
    for name in ("a", "b", "c"):
        locality.access(name, 1.0)

    locality.touch("a", 2.0)
    locality.access("a", 3.0)

    curve = locality.curve(300.0, 4.0)
    assert curve.n_requests == 4
    assert curve.misses(1) == 3


def test_a_forgotten_version_is_no_name_any_more_and_its_requests_stay() -> None:
    locality = fed(["a", "b", "a"])

    locality.forget("a")

    curve = locality.curve(300.0, 1.0)
    assert curve.n_names == 1
    assert (curve.misses(1), curve.misses(2)) == (3, 2)


def test_an_old_request_leaves_the_short_window_and_stays_in_the_long_one() -> None:
    locality = Locality()
    locality.access("a", 0.0)
    locality.access("a", 1000.0)

    assert locality.curve(300.0, 1001.0).n_requests == 1
    assert locality.curve(300.0, 1001.0).n_cold == 0
    assert locality.curve(3600.0, 1001.0).n_requests == 2


def test_above_its_bound_it_follows_a_sample_of_the_names_for_good() -> None:
    locality = fed([f"n{index}" for index in range(1000)], max_names=100)

    assert locality.sample_rate in (1 / 16, 1 / 32)
    assert locality.n_followed <= 100
    curve = locality.curve(300.0, 10.0)
    assert curve.n_requests == 1000
    assert curve.n_names == pytest.approx(1000, rel=0.3)
    assert curve.n_cold == pytest.approx(1000, rel=0.3)


def test_memory_is_bounded_whatever_is_asked_for() -> None:
    names = zipf_names(5000, 30_000, seed=1, exponent=0.5)

    locality = fed(names, max_names=256)

    assert locality.n_followed <= 256
    kept = [
        len(counts)
        for ring in locality._windows._rings.values()
        for stretch in ring
        for counts in stretch.kept.counts.values()
    ]
    assert max(kept) <= 2 * (1024 + 256)


@pytest.mark.parametrize("exponent", [0.7, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_sampled_curve_is_within_three_points_of_the_exact_one(
    exponent: float, seed: int
) -> None:
    names = zipf_names(3000, 30_000, seed=seed, exponent=exponent)
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3000]

    exact, sampled = (
        fed(names, sample_halvings=halvings).curve(3600.0, 300.0) for halvings in (0, 2)
    )

    errors = [abs(exact.misses(size) - sampled.misses(size)) / exact.n_requests for size in sizes]
    assert max(errors) < 0.03
    assert sampled.n_requests == exact.n_requests
    assert sampled.n_cold == pytest.approx(exact.n_cold, rel=0.1)


def test_what_nobody_counts_is_bounded_too() -> None:
    locality = Locality(max_names=8)
    for number in range(100):
        locality.occupy(f"t/a{number}@1")

    assert locality.n_followed <= 8
    assert locality.curve(300.0, 0.0).n_requests == 0
