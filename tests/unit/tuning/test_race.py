"""Who is ahead: rounds of the same numbers compared, and when a setting needs another one."""

from __future__ import annotations

import math

import pytest

from serving.tuning.goals import Bound, GoalInvalid, Goals
from serving.tuning.race import Evidence, Round, Rules, Standing, standing
from serving.tuning.space import Setting

START = Setting()
SMALL = Setting(max_num_batched_tokens=128, long_prefill_token_threshold=32)
MIDDLE = Setting(max_num_batched_tokens=512, long_prefill_token_threshold=128)
GOALS = Goals("gap_p99", (Bound("throughput", 0.11, is_relative=True),), "short")
RULES = Rules(min_rounds=2, max_rounds=4, start_rounds=4)
SEEDS = (1.0, 1.6, 0.7, 1.2)


def rounds(
    setting: Setting, gap: float, throughput: float, *, n: int = 4, n_failed: int = 0
) -> list[Round]:
    """Each seed makes gaps longer or shorter by its factor, and a percent by chance."""
    chance = (1.0, 1.02, 0.99, 1.01) if setting == START else (1.01, 1.0, 1.0, 0.98)
    return [
        Round(
            setting,
            number,
            {
                "gap_p99": gap * SEEDS[number] * chance[number],
                "throughput": throughput * chance[number],
                "n_failed": float(n_failed),
            },
        )
        for number in range(n)
    ]


def evidence(*given: list[Round]) -> Evidence:
    return Evidence(START, GOALS, [one for some in given for one in some])


def test_what_a_seed_adds_to_all_settings_cancels() -> None:
    known = evidence(rounds(START, 1000, 500), rounds(SMALL, 200, 480))

    interval = known.goal_interval(SMALL, START, confidence=0.95)

    assert interval is not None
    assert math.exp(interval.low) == pytest.approx(0.2, rel=0.05)
    assert math.exp(interval.high) == pytest.approx(0.2, rel=0.05)


def test_before_its_least_rounds_nothing_is_judged() -> None:
    known = evidence(rounds(START, 1000, 500), rounds(SMALL, 1, 500, n=1))

    assert standing(known, SMALL, RULES) is Standing.RACING


def test_what_is_clearly_over_a_bound_is_out_at_once() -> None:
    known = evidence(
        rounds(START, 1000, 500), rounds(MIDDLE, 300, 490), rounds(SMALL, 50, 250, n=2)
    )

    assert standing(known, SMALL, RULES) is Standing.OUT_OF_BOUNDS
    assert known.best() == MIDDLE


def test_what_is_clearly_worse_than_the_best_is_left_early() -> None:
    known = evidence(
        rounds(START, 1000, 500), rounds(SMALL, 100, 490), rounds(MIDDLE, 400, 495, n=2)
    )

    assert standing(known, MIDDLE, RULES) is Standing.WORSE


def test_a_setting_that_leaves_requests_unanswered_is_never_the_best() -> None:
    known = evidence(rounds(START, 1000, 500), rounds(SMALL, 10, 500, n_failed=1))

    assert standing(known, SMALL, RULES) is Standing.UNANSWERED
    assert known.best() == START


def test_two_that_are_alike_are_settled_when_the_rounds_are_used_up() -> None:
    known = evidence(rounds(START, 1000, 500), rounds(SMALL, 300, 490), rounds(MIDDLE, 302, 490))

    assert standing(known, MIDDLE, RULES) is Standing.SETTLED


def test_a_figure_that_was_not_measured_keeps_no_bound() -> None:
    blind = [Round(SMALL, n, {"gap_p99": 1.0, "n_failed": 0.0}) for n in range(4)]
    known = evidence(rounds(START, 1000, 500), blind)

    assert not known.keeps_bounds(SMALL)
    assert known.best() == START


def test_the_start_keeps_bounds_that_are_relative_to_itself() -> None:
    assert evidence(rounds(START, 1000, 500)).keeps_bounds(START)


def test_an_absolute_bound_holds_for_the_start_too() -> None:
    goals = Goals("throughput", (Bound("gap_p99", 500.0),))
    known = Evidence(START, goals, [*rounds(START, 1000, 500), *rounds(SMALL, 200, 400)])

    assert not known.keeps_bounds(START)
    assert known.best() == SMALL


@pytest.mark.parametrize(
    ("metric", "limit", "is_relative"),
    [("speed", 1.0, False), ("throughput", 1.5, True), ("gap_p99", 0.0, False)],
)
def test_a_bound_that_bounds_nothing_is_refused(
    metric: str, limit: float, is_relative: bool
) -> None:
    with pytest.raises(GoalInvalid):
        Goals("gap_p99", (Bound(metric, limit, is_relative),))


def test_a_setting_whose_engine_failed_later_is_never_the_best() -> None:
    given = [*rounds(START, 1000, 500), *rounds(SMALL, 10, 500)]
    known = Evidence(START, GOALS, given, failed=frozenset({SMALL}))

    assert known.best() == START
    assert standing(known, SMALL, RULES) is Standing.UNANSWERED


def test_unanswered_requests_are_told_apart_from_bounds() -> None:
    known = evidence(rounds(START, 1000, 500), rounds(SMALL, 10, 500, n_failed=2))

    assert standing(known, SMALL, RULES) is Standing.UNANSWERED
    assert known.n_unanswered(SMALL) == 8
