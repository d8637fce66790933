"""A recorded load is the trace's requests: when, how long, whose; and nothing of the gate's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.recorded import (
    Recording,
    TraceInvalid,
    TraceLine,
    make_recording,
    parse_trace,
    parse_when,
)
from serving.tuning.shapes import BUILT_IN, ShapeInvalid, left_out_note, read_shape

START = 1764000000.0


def events(requests: Iterable[dict[str, Any]]) -> list[TraceLine]:
    """Each request's two events, one after the other."""
    made: list[TraceLine] = []
    for request in requests:
        position = len(made)
        plain = {
            "adapter": request.get("adapter", "acme/a@1"),
            "request": position,
            "is_gate": request.get("gate", False),
        }
        at = START + request["at"]
        made.append(
            TraceLine(
                position=position, at=at, kind="admitted", prompt_tokens=0, completion_tokens=0,
                **plain,
            )
        )  # fmt: skip
        if request.get("ends", True):
            made.append(
                TraceLine(
                    position=position + 1, at=at + 5, kind="finished",
                    prompt_tokens=request.get("prompt", 20),
                    completion_tokens=request.get("output", 8), **plain,
                )
            )  # fmt: skip
    return made


def lines(trace: list[TraceLine]) -> bytes:
    """As the controller's route gives them, with a field that is not read here."""
    rows = [
        {**{name: getattr(event, name) for name in TraceLine.__struct_fields__}, "ttft_seconds": 1}
        for event in trace
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(0, 1000).map(lambda n: n / 8),
            "adapter": st.sampled_from(["acme/a@1", "acme/b@1", "other/c@2"]),
            "prompt": st.integers(0, 900),
            "output": st.integers(0, 50),
            "gate": st.booleans(),
            "ends": st.booleans(),
        }
    ),
    max_size=12,
).map(lambda requests: sorted(requests, key=lambda request: request["at"]))


@given(st.lists(REQUESTS, min_size=1, max_size=3), st.sampled_from([0.5, 1.0, 4.0]))
def test_each_request_is_in_the_load_or_counted_as_left_out(
    traces: list[list[dict[str, Any]]], speed: float
) -> None:
    everything = [request for trace in traces for request in trace]
    wanted = [
        one
        for one in everything
        if one["ends"] and not one["gate"] and one["prompt"] and one["output"]
    ]
    recorded = [events(trace) for trace in traces]
    if not wanted:
        with pytest.raises(TraceInvalid, match="no request is left"):
            make_recording(recorded)
        return

    recording = make_recording(recorded, speed=speed)

    arrivals = recording.shape.arrivals
    left_out = recording.n_gate + recording.n_unfinished + recording.n_empty
    assert len(arrivals) + left_out == len(everything)
    first = min(one["at"] for one in wanted)
    assert sorted(
        (one.at * speed + first, recording.adapters[one.adapter], one.n_prompt, one.n_output)
        for one in arrivals
    ) == sorted((one["at"], one["adapter"], one["prompt"], one["output"]) for one in wanted)
    assert [one.at for one in arrivals] == sorted(one.at for one in arrivals)


@given(REQUESTS)
def test_a_trace_is_read_from_its_lines(requests: list[dict[str, Any]]) -> None:
    assert parse_trace(lines(events(requests)), source="t") == events(requests)


def test_adapters_are_numbered_by_popularity_in_the_window() -> None:
    early = [{"at": 1.0, "adapter": "acme/early@1"}] * 3
    late = [{"at": 10.0, "adapter": "b/b@1"}, {"at": 11.0, "adapter": "a/a@1"}]
    trace = events([*early, *late, {"at": 12.0, "adapter": "b/b@1"}])

    recording = make_recording([trace], since=START + 5)

    assert recording.adapters == ("b/b@1", "a/a@1")
    assert [one.adapter for one in recording.shape.arrivals] == [0, 1, 0]
    assert recording.started_at == START + 10


def test_a_window_has_its_start_and_not_its_end() -> None:
    trace = events([{"at": float(at)} for at in range(5)])

    recording = make_recording([trace], since=START + 1, until=START + 3)

    assert [one.at for one in recording.shape.arrivals] == [0, 1]


def test_a_request_that_ends_after_the_window_is_in_it() -> None:
    trace = events([{"at": 0.0}])

    assert len(make_recording([trace], until=START + 1).shape.arrivals) == 1


def test_long_prompts_are_a_class_of_their_own() -> None:
    trace = events([{"at": 0.0, "prompt": 511}, {"at": 1.0, "prompt": 512}])

    assert [one.kind for one in make_recording([trace]).shape.arrivals] == ["short", "long"]
    assert make_recording([trace], long_from=513).shape.kinds == ("short",)


def test_a_torn_file_is_named_with_its_line() -> None:
    whole = lines(events([{"at": 0.0}, {"at": 1.0}]))

    with pytest.raises(TraceInvalid, match="line 4, its last, is cut off"):
        parse_trace(whole[:-9], source="t.jsonl")
    with pytest.raises(TraceInvalid, match="line 2: "):
        parse_trace(whole.replace(b"finished", b"broken", 1), source="t.jsonl")


def test_two_engines_traces_in_one_file_are_refused() -> None:
    trace = lines(events([{"at": 0.0}]))

    with pytest.raises(TraceInvalid, match="file of its own"):
        parse_trace(trace + trace, source="t.jsonl")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_trace_or_a_typed_error(content: bytes) -> None:
    try:
        read = parse_trace(content, source="t")
    except TraceInvalid:
        read = []

    assert all(isinstance(event, TraceLine) for event in read)


def test_a_trace_and_a_file_of_traces_are_shapes(tmp_path: Path) -> None:
    for number in range(2):
        trace = events([{"at": float(number)}, {"at": 4.0 + number}])
        (tmp_path / f"engine-{number}.jsonl").write_bytes(lines(trace))
    both = tmp_path / "both.yaml"
    both.write_text(
        "recorded:\n  files: [engine-0.jsonl, engine-1.jsonl]\n"
        f"  from: 2025-11-24T16:00:01Z\n  to: {START + 5}\n  speed: 2\n"
    )

    one = read_shape(str(tmp_path / "engine-0.jsonl")).draw(0)
    drawn = read_shape(str(both)).draw(0)

    assert [arrival.at for arrival in one.arrivals] == [0, 4]
    assert [arrival.at for arrival in drawn.arrivals] == [0, 1.5]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{files: []}", r"recorded\.files"),
        ("{files: [none.jsonl]}", r"none\.jsonl: No such file"),
        ("{files: [a], from: soon}", r"recorded\.from: 'soon' is neither"),
        ("{files: [a], sped: 2}", "did you mean speed"),
        ("{files: [a], speed: 0}", r"recorded\.speed: 0 is not above 0"),
    ],
)
def test_what_a_file_of_traces_cannot_mean_is_named(
    tmp_path: Path, section: str, said: str
) -> None:
    path = tmp_path / "window.yaml"
    path.write_text(f"recorded: {section}\n")

    with pytest.raises(ShapeInvalid, match=said):
        read_shape(str(path))


def test_a_moment_is_unix_seconds_or_a_time_in_utc() -> None:
    assert parse_when("1764000000.5") == 1764000000.5
    assert parse_when("2025-11-24T16:00:00") == parse_when("2025-11-24T17:00:00+01:00") == START


def test_what_of_a_trace_is_not_replayed_is_told() -> None:
    shape = Shape("engine-0", (Arrival(0.0, 5, 3, 0, "short"),))

    note = left_out_note(Recording(shape, ("a/b@1",), 0.0, n_gate=0, n_unfinished=3, n_empty=2))

    assert "engine-0: 3 unfinished, 2 empty requests" in note
    assert left_out_note(Recording(shape, ("a/b@1",), 0.0, 0, 0, 0)) == ""
    assert left_out_note(BUILT_IN["poisson"]) == ""
