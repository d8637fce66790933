from __future__ import annotations

from serving.contract import TracePage
from serving.controller.capacity.trace_cursor import TraceCursor
from tests.builders.controller import a_report


def a_page(first: int, following: int, end: int) -> TracePage:
    return TracePage("engine-0", first, following, end)


def test_the_first_look_loses_nothing_whatever_the_ring_still_has() -> None:
    cursor = TraceCursor()

    cursor.advance(a_page(500, 600, 1000))

    assert (cursor.next, cursor.lag_events, cursor.lost_events) == (600, 400, 0)


def test_a_gap_is_counted() -> None:
    cursor = TraceCursor()
    cursor.advance(a_page(0, 100, 100))

    cursor.advance(a_page(130, 200, 200))

    assert (cursor.lost_events, cursor.next) == (30, 200)


def test_a_report_says_how_far_behind_a_reader_is() -> None:
    cursor = TraceCursor()
    cursor.advance(a_page(0, 100, 100))

    assert not cursor.observe(a_report(trace_position=100))
    assert cursor.observe(a_report(trace_position=140))
    assert cursor.lag_events == 40
    # Older than what was read since: nothing new.
    assert not TraceCursor(next=100, end=100).observe(a_report(trace_position=90))


def test_another_ring_after_a_restart_is_read_from_its_start() -> None:
    cursor = TraceCursor()
    cursor.observe(a_report(trace_position=100, started_at=1.0))
    cursor.advance(a_page(0, 100, 100))

    assert cursor.observe(a_report(trace_position=7, started_at=2.0))
    assert (cursor.next, cursor.lag_events) == (0, 7)


def test_a_page_that_ends_before_what_was_read_means_another_ring() -> None:
    cursor = TraceCursor()
    cursor.advance(a_page(0, 100, 100))

    cursor.advance(a_page(20, 20, 20))

    assert (cursor.next, cursor.lag_events, cursor.lost_events) == (0, 20, 0)
