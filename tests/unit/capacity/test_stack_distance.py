"""An LRU stack says how deep an accessed name lay."""

from __future__ import annotations

import random

from serving.capacity.stack_distance import StackDistances


def test_the_distance_counts_the_different_names_since_the_last_use() -> None:
    stack = StackDistances()

    distances = [stack.access(name) for name in "abcaabbc"]

    assert distances == [None, None, None, 3, 1, 3, 1, 3]


def test_a_touch_makes_recent_and_is_nothing_for_an_unknown_name() -> None:
    stack = StackDistances()
    for name in "abc":
        stack.access(name)

    stack.touch("a")
    stack.touch("never accessed")

    assert list(stack) == ["b", "c", "a"]
    assert stack.access("a") == 1
    assert stack.access("c") == 2


def test_a_forgotten_name_is_gone_and_comes_back_as_a_first_use() -> None:
    stack = StackDistances()
    for name in "abc":
        stack.access(name)

    stack.forget("b")
    stack.forget("unknown")

    assert "b" not in stack
    assert list(stack) == ["a", "c"]
    assert stack.access("b") is None


def test_a_forgotten_name_leaves_a_free_place_and_brings_nobody_back() -> None:
    stack = StackDistances()
    for name in "abc":
        stack.access(name)

    stack.forget("b")

    # In a cache of two, "a" was pushed out before; the free place goes to it, and "c" stays.
    assert stack.access("a") == 3
    assert stack.access("c") == 2


def test_ten_thousand_names_are_as_exact_as_three() -> None:
    draw, stack = random.Random(5), StackDistances()
    names = [f"tenant-{index}/support@1" for index in range(10_000)]
    for name in names:
        stack.access(name)

    order = list(names)
    for _ in range(300):
        name = draw.choice(order)
        expected = len(order) - order.index(name)
        assert stack.access(name) == expected
        order.remove(name)
        order.append(name)


def test_memory_follows_the_names_and_not_the_accesses() -> None:
    stack = StackDistances()

    for index in range(200_000):
        stack.access(f"n{index % 50}")

    assert len(stack._marks) < 2048
    assert list(stack) == [f"n{index}" for index in range(50)]
