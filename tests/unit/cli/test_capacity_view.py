"""The miss-ratio curve as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.cli.capacity_view import draw_curve, goal_text
from serving.cli.top_view import milliseconds, rate


def points(*ratios: float | None) -> list[dict[str, float | None]]:
    return [{"slots": n, "miss_ratio": ratio} for n, ratio in enumerate(ratios, start=1)]


def test_today_and_the_recommended_size_are_marked_under_their_columns() -> None:
    lines = draw_curve(points(0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.0), today=1, recommended=8)

    marks = lines[-2]
    assert marks.index("T") == 9
    assert marks.index("R") == 9 + 63
    assert "B: both" not in marks


def test_one_size_for_both_is_one_mark() -> None:
    marks = draw_curve(points(0.8, 0.6, 0.4), today=2, recommended=2)[-2]

    assert marks.strip().startswith("B ")
    assert "B: both" in marks


def test_nothing_known_is_nothing_drawn() -> None:
    assert draw_curve(points(None, None), today=1, recommended=None) == []


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60).map(lambda x: sorted(x, reverse=True)),
    st.integers(1, 100),
)
def test_every_column_has_one_point_and_the_curve_never_rises(
    ratios: list[float], today: int
) -> None:
    lines = draw_curve(points(*ratios), today=today, recommended=None)[:13]

    columns = [[line[9:].ljust(64)[at] for line in lines] for at in range(64)]
    heights = [column.index("•") for column in columns]
    assert all(column.count("•") == 1 for column in columns)
    assert heights == sorted(heights)


def test_a_goal_is_said_in_words() -> None:
    goal = {"miss_ratio": 0.05, "added_seconds": 0.002}

    assert goal_text(goal) == "at most 5 % misses and at most 2 ms added to a request"


def test_a_rate_counts_only_what_was_sampled() -> None:
    assert rate([None, 10, 20, None], 10.0) == 1.5
    assert rate([None], 10.0) is None
    assert rate([], 10.0) is None


def test_a_cost_below_a_millisecond_is_not_shown_as_none() -> None:
    shown = [milliseconds(seconds) for seconds in (None, 0.000425, 0.0032, 0.144, 12.5)]

    assert shown == ["-", "0.42 ms", "3.2 ms", "144 ms", "12500 ms"]
