"""What a request has taken is the sum of its parts, whatever became of them."""

from __future__ import annotations

from serving.engine.trace import Usage
from serving.engine.usage_meter import UsageMeter


def test_parts_of_a_request_are_summed_and_an_aborted_part_counts_as_far_as_it_came() -> None:
    meter = UsageMeter()
    took = {"a": Usage(5, 1, 0.4), "b": Usage(0, 2, 0.3), "c": Usage(4, 0)}
    for part in took:
        meter.open(part, lambda part=part: took[part])  # type: ignore[misc]

    took["a"] = Usage(5, 8, 0.4)
    meter.close("a")
    took["b"] = Usage(0, 3, 0.3)

    assert meter.total() == Usage(9, 11, 0.3)
    assert (meter.is_open, meter.aborted()) == (True, Usage(4, 3, 0.3))
    for part in took:
        meter.close(part)
    assert not meter.is_open


def test_a_part_is_closed_once_and_not_after_it_was_forgotten() -> None:
    meter = UsageMeter()
    meter.open("ended", Usage)
    meter.open("given up", Usage)

    assert [meter.close("ended"), meter.close("ended")] == [True, False]
    meter.forget()
    assert not meter.close("given up")
