"""A curve answers for every slot count, and says nothing of what it does not know."""

from __future__ import annotations

from itertools import pairwise

from serving.capacity.curve import Curve, CurvePoint, make_curve, merge_curves

EMPTY = make_curve({}, n_requests=0, n_cold=0, seconds=0.0, n_names=0)


def curve() -> Curve:
    """Ten requests in two minutes: two first uses, five at distance 1, three at distance 4."""
    return make_curve({1: 5.0, 4: 3.0}, n_requests=10, n_cold=2, seconds=120.0, n_names=4)


def test_misses_fall_where_a_distance_fits() -> None:
    assert [curve().misses(slots) for slots in range(6)] == [10, 5, 5, 5, 2, 2]
    assert curve().misses(10_000) == 2


def test_ratios_and_rates_follow_from_the_misses() -> None:
    assert curve().miss_ratio(3) == 0.5
    assert curve().loads_per_minute(3) == 2.5


def test_without_requests_or_time_there_is_no_number() -> None:
    assert EMPTY.misses(8) == 0
    assert EMPTY.miss_ratio(8) is None
    assert EMPTY.loads_per_minute(8) is None
    assert EMPTY.points(2) == [CurvePoint(1, None, None), CurvePoint(2, None, None)]


def test_the_fewest_slots_for_so_many_misses_are_found() -> None:
    assert curve().smallest_slots(10) == 0
    assert curve().smallest_slots(9.9) == 1
    assert curve().smallest_slots(4.9) == 4
    assert curve().smallest_slots(2) == 4
    assert curve().smallest_slots(1.9) is None


def test_first_uses_alone_miss_at_every_size() -> None:
    cold = make_curve({}, n_requests=3, n_cold=3, seconds=60.0, n_names=3)

    assert [cold.misses(slots) for slots in (0, 1, 100)] == [3, 3, 3]


def test_points_are_every_slot_first_and_then_five_percent_apart() -> None:
    sizes = [point.slots for point in curve().points(1000)]

    assert sizes[:256] == list(range(1, 257))
    assert sizes[-1] == 1000
    steps = [later / earlier for earlier, later in pairwise(sizes[256:-1])]
    assert all(1.04 < step < 1.06 for step in steps)
    assert curve().points(0) == []


def test_merged_engines_keep_their_own_slots() -> None:
    other = make_curve({2: 4.0}, n_requests=5, n_cold=1, seconds=60.0, n_names=1)

    merged = merge_curves([curve(), other])

    assert [merged.misses(slots) for slots in range(6)] == [15, 10, 6, 6, 3, 3]
    assert (merged.n_requests, merged.n_cold, merged.n_names) == (15, 3, 5)
    assert merged.seconds == 120.0
    assert merge_curves([]) == EMPTY


def test_a_sample_that_missed_the_hot_names_puts_the_difference_at_distance_one() -> None:
    sampled = make_curve({8: 16.0}, n_requests=100, n_cold=8, seconds=60.0, n_names=10)

    assert [sampled.misses(slots) for slots in (0, 1, 7, 8)] == [100, 24, 24, 8]
