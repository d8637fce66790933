"""Windows slide in steps, hold sums and drop what is old."""

from __future__ import annotations

from collections import Counter

import pytest

from serving.capacity.segments import SEGMENTS, Windows


def windows() -> Windows[Counter[str]]:
    return Windows((20.0, 100.0), empty=Counter, merge=lambda into, other: into.update(other))


def put(into: Windows[Counter[str]], name: str, at: float) -> None:
    into.roll(at)[name] += 1


def test_each_window_holds_its_own_stretch_of_time() -> None:
    kept = windows()
    for second in range(200):
        put(kept, f"at {second}", float(second))

    short, _ = kept.total(20.0, 200.0)
    long, _ = kept.total(100.0, 200.0)

    assert sorted(short) == sorted(f"at {second}" for second in range(180, 200))
    assert sorted(long) == sorted(f"at {second}" for second in range(100, 200))


def test_the_seconds_are_those_that_the_sum_covers_quiet_ones_included() -> None:
    kept = windows()
    put(kept, "first", 10.0)
    put(kept, "second", 95.0)

    assert kept.total(100.0, 100.0)[1] == 90.0
    assert kept.total(20.0, 100.0)[1] == 20.0
    assert kept.total(100.0, 1000.0) == (Counter(), 100.0)


def test_before_anything_happened_no_time_has_passed() -> None:
    assert windows().total(20.0, 50.0) == (Counter(), 0.0)


def test_what_is_reported_late_counts_at_the_latest_time() -> None:
    kept = windows()
    put(kept, "on time", 50.0)
    put(kept, "late", 3.0)

    assert kept.total(20.0, 55.0)[0] == {"on time": 1, "late": 1}


def test_an_unknown_window_is_refused() -> None:
    with pytest.raises(KeyError):
        windows().total(30.0, 0.0)


def test_memory_does_not_grow_with_time() -> None:
    kept = windows()
    for second in range(5000):
        put(kept, "same", float(second))

    assert all(len(ring) <= SEGMENTS + 1 for ring in kept._rings.values())
