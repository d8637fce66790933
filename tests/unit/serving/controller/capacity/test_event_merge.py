from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.contract import TraceEvent, TraceKind
from serving.controller.capacity.event_merge import MAX_WAITING, EventMerge


def events(*times: float) -> list[TraceEvent]:
    return [TraceEvent(n, at, TraceKind.ADMITTED, "acme/a@1", n) for n, at in enumerate(times)]


def times(ready: object) -> list[float]:
    return [event.at for event in ready]  # type: ignore[attr-defined]


def test_what_an_earlier_event_may_precede_waits() -> None:
    merge = EventMerge()
    merge.add("a", events(1.0, 2.0))
    merge.add("b", events(1.5, 9.0))

    first = times(merge.ready({"a": 2.0, "b": None}))
    merge.add("a", events(3.0))
    second = times(merge.ready({"a": None, "b": None}))

    assert first == [1.0, 1.5, 2.0]
    assert second == [3.0, 9.0]


def test_an_engine_that_is_not_read_holds_nobody_up() -> None:
    merge = EventMerge()
    merge.add("a", events(5.0))

    assert times(merge.ready({"a": None})) == [5.0]


def test_a_forgotten_engine_leaves_nothing_behind() -> None:
    merge = EventMerge()
    merge.add("a", events(5.0))
    merge.forget("a")

    assert times(merge.ready({})) == []
    assert merge.last_at("a") is None


def test_an_engine_far_ahead_is_full() -> None:
    merge = EventMerge()
    merge.add("a", events(*map(float, range(MAX_WAITING))))

    assert merge.is_full("a")
    assert not merge.is_full("b")
    assert merge.last_at("a") == MAX_WAITING - 1


@given(st.lists(st.lists(st.floats(0, 100), max_size=20), max_size=4))
def test_all_come_out_once_and_in_order(streams: list[list[float]]) -> None:
    merge = EventMerge()
    for place, stream in enumerate(streams):
        merge.add(str(place), events(*sorted(stream)))

    out = times(merge.ready(dict.fromkeys(map(str, range(len(streams))))))

    assert out == sorted(value for stream in streams for value in stream)
