"""An engine on its way out: one way, and never later than it was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.departure import Departure, Stage

ORDER = list(Stage)
SECONDS = st.floats(0, 100)


def test_it_lets_requests_in_for_a_while_and_then_no_more() -> None:
    now = 100.0
    departure = Departure(lambda: now)
    assert (departure.stage, departure.admits_for_seconds) == (Stage.SERVING, None)

    departure.leave(15)

    assert (departure.stage, departure.is_draining) == (Stage.LEAVING, False)
    now = 112.0
    assert departure.admits_for_seconds == 3
    now = 115.0
    assert (departure.stage, departure.is_draining) == (Stage.DRAINING, True)
    assert departure.admits_for_seconds == 0


def test_asked_again_it_keeps_its_time_and_in_a_hurry_it_leaves_at_once() -> None:
    now = 100.0
    departure = Departure(lambda: now)
    departure.leave(15)
    now = 110.0

    departure.leave(15)

    assert departure.admits_for_seconds == 5
    departure.leave(0)
    assert departure.is_draining


@given(st.lists(st.tuples(SECONDS, st.none() | SECONDS), max_size=20))
def test_whatever_is_asked_and_when_it_never_goes_back(
    steps: list[tuple[float, float | None]],
) -> None:
    now, seen, ends_by = 0.0, [Stage.SERVING], float("inf")
    departure = Departure(lambda: now)

    for pause, leave in steps:
        now += pause
        seen.append(departure.stage)
        if leave is not None:
            departure.leave(leave)
            ends_by = min(ends_by, now + leave)
        seen.append(departure.stage)

    assert seen == sorted(seen, key=ORDER.index)
    assert departure.is_draining == (now >= ends_by)
