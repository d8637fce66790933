"""Which proven version is probed next, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.reprobe import LastProbe, choose_reprobe, due_at

NAMES = ("acme/a@1", "acme/b@1", "beta/c@2")


def chosen(*proven: LastProbe, now: float, interval: float = 100.0) -> str | None:
    return choose_reprobe(
        proven, resident=NAMES, engine_id="engine-0", interval_seconds=interval, now=now
    )


def test_the_version_that_is_overdue_longest_comes_first() -> None:
    old, new = LastProbe("acme/a@1", 0.0), LastProbe("acme/b@1", 1000.0)

    assert chosen(new, old, now=2000.0) == "acme/a@1"
    assert chosen(new, old, now=500.0) == "acme/a@1"
    assert chosen(new, now=1001.0) is None


def test_bytes_that_were_read_again_are_probed_at_once() -> None:
    read_again, overdue = LastProbe("acme/b@1", None, 7), LastProbe("acme/a@1", 0.0)

    assert chosen(overdue, read_again, now=1e6) == "acme/b@1"
    assert chosen(read_again, now=0.0) == "acme/b@1"


def test_a_version_out_of_memory_is_left_alone() -> None:
    assert chosen(LastProbe("acme/evicted@1", None), now=1e6) is None


def test_no_interval_means_never() -> None:
    assert chosen(LastProbe("acme/a@1", None), now=1e6, interval=0.0) is None


@given(st.floats(0, 1e6), st.floats(1, 1e4), st.integers(0, 1000), st.sampled_from(NAMES))
def test_a_pause_is_between_three_and_five_quarters_of_the_interval(
    at: float, interval: float, n_probes: int, name: str
) -> None:
    last = LastProbe(name, at, n_probes)

    moment = due_at(last, engine_id="engine-0", interval_seconds=interval)

    assert at + 0.75 * interval <= moment <= at + 1.25 * interval
    assert chosen(last, now=moment, interval=interval) == name
    assert chosen(last, now=at + 0.74 * interval, interval=interval) is None


def test_engines_and_versions_spread_over_the_interval() -> None:
    moments = [
        due_at(LastProbe(f"acme/a{n}@1", 0.0), engine_id=f"engine-{e}", interval_seconds=400.0)
        for n in range(25)
        for e in range(4)
    ]

    quarters = [sum(300 + 50 * q <= at < 350 + 50 * q for at in moments) for q in range(4)]
    assert min(quarters) >= 10
