"""A goal is something that can be reached or missed."""

from __future__ import annotations

import pytest

from serving.capacity.plan_facts import Goal


@pytest.mark.parametrize(
    "values", [{"miss_ratio": 1.1}, {"miss_ratio": -0.1}, {"added_seconds": -1.0}]
)
def test_an_impossible_goal_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"1\.1|-0\.1|-1\.0"):
        Goal(**values)


def test_a_miss_ratio_of_five_percent_is_the_usual_goal() -> None:
    assert Goal() == Goal(miss_ratio=0.05, added_seconds=None)
