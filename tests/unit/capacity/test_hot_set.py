"""Hot sets count adapters over sliding windows."""

from __future__ import annotations

from serving.capacity.hot_set import HotSets


def test_distinct_adapters_are_counted_per_window() -> None:
    hot = HotSets()
    for at, name in ((0.0, "a"), (200.0, "b"), (290.0, "c"), (295.0, "c")):
        hot.used(name, at)

    assert [hot.distinct(window, 300.0) for window in (60.0, 300.0, 3600.0)] == [1, 3, 3]


def test_the_smallest_set_with_nine_requests_in_ten_is_found() -> None:
    hot = HotSets()
    for name, count in (("a", 60), ("b", 25), ("c", 5), ("d", 5), ("e", 5)):
        for _ in range(count):
            hot.used(name, 10.0)

    assert hot.covering(0.9, 60.0, 11.0) == ["a", "b", "c"]
    assert hot.covering(0.6, 60.0, 11.0) == ["a"]
    assert hot.covering(1.0, 60.0, 11.0) == ["a", "b", "c", "d", "e"]


def test_without_requests_nothing_is_hot() -> None:
    hot = HotSets()

    assert hot.covering(0.9, 60.0, 100.0) == []
    assert hot.rates(60.0, 100.0) == {}
    assert hot.distinct(60.0, 100.0) == 0


def test_a_rate_is_the_windows_count_over_its_length() -> None:
    hot = HotSets()
    for second in range(30):
        hot.used("a", float(second))

    assert hot.rates(60.0, 30.0) == {"a": 0.5}
    assert hot.counts(60.0, 30.0) == {"a": 30}


def test_names_beyond_the_bound_count_in_the_total_alone() -> None:
    hot = HotSets(max_names=3)
    for index in range(10):
        hot.used(f"n{index}", 1.0)
    for _ in range(10):
        hot.used("n0", 1.0)

    assert hot.distinct(60.0, 2.0) <= 3
    assert hot.covering(0.5, 60.0, 2.0) == ["n0"]
    assert len(hot.covering(1.0, 60.0, 2.0)) <= 3
