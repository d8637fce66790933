"""The time that is said to be left: measured where it can be, else unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.cli.remaining import Look, Remaining, describe, estimate_remaining, read_look

WEIGHTS = (1.0, 10.0, 40.0, 9.0)


def looks(*counts: tuple[float, int], stage: str = "candidate", total: int = 100) -> list[Look]:
    return [Look(at, stage, done, total) for at, done in counts]


def placed(at: float, index: int, done: int = 0, total: int = 0) -> Look:
    return Look(at, f"stage-{index}", done, total, index, WEIGHTS)


def test_what_is_left_follows_from_the_rate_that_was_seen() -> None:
    assert estimate_remaining(looks((0, 0), (10, 25))).stage_seconds == pytest.approx(30)


def test_who_joins_in_the_middle_measures_only_what_it_saw() -> None:
    assert estimate_remaining(looks((100, 60), (110, 80))).stage_seconds == pytest.approx(10)


@pytest.mark.parametrize(
    "seen",
    [
        [],
        looks((0, 0)),
        looks((0, 0), (1.0, 50)),
        looks((0, 0), (60, 2)),
        looks((0, 0), (60, 30), total=0),
    ],
    ids=["nothing", "one look", "too short", "too few", "no total"],
)
def test_what_was_hardly_seen_is_unknown(seen: list[Look]) -> None:
    assert estimate_remaining(seen).stage_seconds is None


def test_a_stage_that_stands_still_takes_longer_and_longer() -> None:
    soon = estimate_remaining(looks((0, 0), (10, 50), (12, 50))).stage_seconds
    late = estimate_remaining(looks((0, 0), (10, 50), (60, 50))).stage_seconds

    assert soon is not None
    assert late is not None
    assert late > 4 * soon


def test_a_stage_that_begins_again_is_measured_again() -> None:
    left = estimate_remaining(looks((0, 0), (10, 90), (20, 0), (30, 10)))

    assert left.stage_seconds == pytest.approx(90)


def test_stages_to_come_are_guessed_at_the_pace_of_those_seen() -> None:
    left = estimate_remaining([placed(0, 0), placed(2, 1), placed(22, 2), placed(42, 2, 50, 100)])

    # 2 + 20 + 40 seconds for weights 1 + 10 + 40.
    pace = 62 / 51
    assert left.stage_seconds == pytest.approx(20)
    assert left.all_seconds == pytest.approx(20 + 9 * pace)


def test_a_reused_stage_says_nothing_of_the_pace() -> None:
    left = estimate_remaining(
        [placed(0, 0), placed(0.2, 1), placed(0.4, 2), placed(20.4, 2, 50, 100)]
    )

    assert left.all_seconds == pytest.approx(20 + 9 * 40.0 / 40.0)


def test_nothing_is_guessed_while_waiting_for_an_engine() -> None:
    waiting = Look(30, "waiting_for_engine", weights=WEIGHTS)

    left = estimate_remaining([placed(0, 0), placed(10, 1), waiting])

    assert left == Remaining(None, None)


def test_a_stage_that_overran_its_usual_share_is_unknown() -> None:
    left = estimate_remaining([placed(0, 0), placed(10, 1), placed(900, 1)])

    assert left.all_seconds is None


def test_an_evaluation_that_starts_over_is_measured_anew() -> None:
    left = estimate_remaining([placed(0, 2), placed(500, 3), placed(510, 0), placed(511, 0)])

    assert left == Remaining(None, None)


@given(
    rate=st.floats(0.5, 50),
    times=st.lists(st.floats(0, 1000), min_size=2, max_size=30, unique=True),
)
def test_no_estimate_is_negative_and_a_steady_rate_is_met(rate: float, times: list[float]) -> None:
    seen = [Look(at, "verify", int(at * rate), 60_000) for at in sorted(times)]

    left = estimate_remaining(seen).stage_seconds

    n_done, seconds = seen[-1].done - seen[0].done, seen[-1].at_seconds - seen[0].at_seconds
    assert (left is None) == (n_done < 3 or seconds < 2)
    if left is not None:
        assert left == pytest.approx((60_000 - seen[-1].done) * seconds / n_done)
        assert left >= 0


@given(
    st.dictionaries(
        st.sampled_from(["stage", "done", "total", "stages", "index"]),
        st.one_of(
            st.none(), st.integers(), st.text(), st.floats(), st.booleans(),
            st.lists(st.dictionaries(st.just("weight"), st.one_of(st.floats(), st.text()))),
        ),
    )
)  # fmt: skip
def test_no_progress_from_the_api_stops_the_estimate(progress: dict[str, object]) -> None:
    look = read_look(0.0, progress)

    assert look.done >= 0
    assert estimate_remaining([look, look]).all_seconds in {None, 0.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None), (float("inf"), None), (0, "a few seconds"), (21, "about 25 s"),
        (55, "about 55 s"), (56, "about 1 min"), (61, "about 2 min"), (3540, "about 59 min"),
        (3601, "about 1 h 10 min"), (7200, "about 2 h"),
    ],
)  # fmt: skip
def test_time_is_said_as_people_say_it_and_rounded_up(
    seconds: float | None, text: str | None
) -> None:
    assert describe(seconds) == text
