"""The trace's side table of names: bounded, survives restarts, cuts off what a crash has torn."""

from __future__ import annotations

from pathlib import Path

from serving.engine.trace import AccessTrace
from serving.engine.trace_names import TraceNames


def test_a_name_keeps_its_number_over_restarts(tmp_path: Path) -> None:
    names = TraceNames(tmp_path / "names.txt")
    numbers = {name: names.number_of(name) for name in ("acme/a@1", "acme/b@1", "beta/a@1")}
    names.close()

    names = TraceNames(tmp_path / "names.txt")

    assert {name: names.number_of(name) for name in numbers} == numbers
    assert [names.name_of(number) for number in numbers.values()] == list(numbers)
    assert names.name_of(17) is None


def test_a_torn_last_line_is_cut_off_and_its_number_is_given_out_whole(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    names = TraceNames(path)
    names.number_of("acme/a@1")
    kept = path.read_bytes()
    names.number_of("acme/b@1")
    names.close()
    whole = path.read_bytes()

    for n_bytes in range(len(kept), len(whole)):
        path.write_bytes(whole[:n_bytes])
        names = TraceNames(path)
        assert names.name_of(1) is None
        assert names.number_of("beta/c@1") == 1
        names.close()
        names = TraceNames(path)
        assert (names.name_of(0), names.name_of(1)) == ("acme/a@1", "beta/c@1")
        names.close()


def test_names_that_no_event_has_any_more_leave_the_file(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=100)

    for index in range(20_000):
        trace.admitted(f"acme/a{index}@1", at=1.0, is_gate=False)

    n_lines = (tmp_path / "names.txt").read_bytes().count(b"\n")
    assert n_lines <= 1100
    trace.close()
    page = AccessTrace(tmp_path, capacity=100).page("e", after=0, limit=200)
    assert [event.adapter for event in page.events] == [
        f"acme/a{index}@1" for index in range(19_900, 20_000)
    ]
