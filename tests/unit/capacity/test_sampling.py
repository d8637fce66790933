"""A sample of the names, and the often used ones, stand for all of them."""

from __future__ import annotations

from serving.capacity.sampling import SampledDistances
from serving.capacity.stack_distance import StackDistances


def sample(*, max_names: int = 1000, halvings: int = 3) -> SampledDistances:
    return SampledDistances(StackDistances(), max_names=max_names, halvings=halvings)


def followed(names: list[str], sampled: SampledDistances) -> list[str]:
    return [name for name in names if sampled.access(name) is not None]


NAMES = [f"tenant-{index}/support@1" for index in range(64)]


def test_the_sample_is_the_same_in_every_process() -> None:
    names = followed(NAMES, sample(halvings=4))

    assert names == ["tenant-19/support@1", "tenant-29/support@1", "tenant-58/support@1"]


def test_a_sampled_name_stands_for_those_that_are_not() -> None:
    sampled = sample()
    seen = followed(NAMES, sampled)

    assert 2 <= len(seen) <= 16
    assert sampled.n_names == 8 * len(seen)
    assert sampled.access(seen[0]) == (3, 1 + 8 * (len(seen) - 1))


def test_a_name_that_is_used_often_is_followed_whatever_its_hash_is() -> None:
    sampled = sample()
    unsampled = next(name for name in NAMES if sampled.access(name) is None)

    answers = [sampled.access(unsampled) for _ in range(5)]

    assert answers[:3] == [None, None, None]
    assert answers[3:] == [(0, 1), (0, 1)]


def test_hot_names_in_between_count_once_and_others_for_many() -> None:
    sampled = sample()
    seen = [name for name in NAMES if sampled.access(name) is not None]
    hot = [name for name in NAMES if name not in seen][:2]
    for name in hot * 5:
        sampled.access(name)

    assert sampled.access(seen[-1]) == (3, 1 + len(hot))
    assert sampled.access(hot[0]) == (0, 1 + 1 + 8)


def test_first_accesses_have_no_distance() -> None:
    sampled = sample()

    first = next(answer for name in NAMES if (answer := sampled.access(name)) is not None)

    assert first == (3, None)


def test_a_forgotten_name_is_followed_no_more_and_a_touch_is_recency_alone() -> None:
    sampled = sample()
    seen = followed(NAMES, sampled)

    sampled.touch(seen[0])
    assert sampled.access(seen[0]) == (3, 1)
    sampled.forget(seen[0])
    sampled.touch(seen[0])

    assert len(sampled) == len(seen) - 1
    assert sampled.access(seen[0]) == (3, None)


def test_no_more_names_are_followed_than_allowed_hot_ones_half_of_them_at_most() -> None:
    sampled = sample(max_names=40, halvings=1)

    for name in [f"hot-{index}" for index in range(60) for _ in range(5)]:
        sampled.access(name)
    for index in range(2000):
        sampled.access(f"cold-{index}")

    assert len(sampled) <= 40
    assert len(sampled._hot) <= 20
    assert sampled.halvings > 1
