"""A streamed answer is read the same however the network cuts it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tuning.stream import StreamReader


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}], "usage": None}


def delta(*, reason: str | None = None, **content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content, "finish_reason": reason}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}}
ANSWER = b"".join(map(event, [piece("a"), piece(""), piece("ü", "length"), USAGE]))
DONE = b"data: [DONE]\n\n"


def read(content: bytes, *, chat: bool = False) -> StreamReader:
    reader = StreamReader(chat=chat)
    reader.feed(content, 1.0)
    return reader


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6).map(sorted))
def test_any_cut_gives_the_same_tokens_and_counts(cuts: list[int]) -> None:
    reader = StreamReader()
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, None], strict=True)):
        reader.feed(ANSWER[start:end], float(number))

    assert len(reader.token_at) == 3
    assert reader.token_at == sorted(reader.token_at)
    assert (reader.n_prompt, reader.n_output, reader.problem) == (20, 3, None)


def test_a_token_has_come_when_its_event_is_whole() -> None:
    reader = StreamReader()
    first = event(piece("a"))

    reader.feed(first[:10], 1.0)
    reader.feed(first[10:], 2.0)

    assert reader.token_at == [2.0]


def test_lines_may_end_as_windows_does_and_comments_are_no_tokens() -> None:
    content = b": ping\r\n\r\n" + (ANSWER + DONE).replace(b"\n", b"\r\n")

    reader = read(content)

    assert (len(reader.token_at), reader.problem) == (3, None)


def test_a_token_that_is_half_a_character_counts() -> None:
    assert len(read(event(piece(""))).token_at) == 1


def test_a_chats_first_event_is_its_role_and_no_token() -> None:
    events = [
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(reasoning_content="b"),
        delta(reason="stop", content=""),
    ]

    reader = read(b"".join(map(event, events)), chat=True)

    assert (len(reader.token_at), reader.problem) == (2, None)


def test_a_stream_that_ends_early_is_no_answer() -> None:
    assert read(event(piece("a"))).problem == "the stream ended before the answer did"
    assert read(b"").problem is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (event({"error": {"message": "out of slots"}}), "out of slots"),
        (b"data: {cut\n\n", "not JSON"),
        (b"data: [1]\n\n", "not JSON"),
    ],
)
def test_an_error_within_the_stream_is_the_answers(content: bytes, said: str) -> None:
    assert said in str(read(content + ANSWER).problem)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_no_answer(reason: str) -> None:
    reader = read(event(piece("a")) + event(piece("", reason)) + event(USAGE) + DONE)

    assert reader.problem == f"the engine ended the answer: {reason}"


@pytest.mark.parametrize("odd", [{"choices": [1]}, {"choices": 3}, {"usage": "many"}])
def test_an_event_of_another_form_is_the_answers_error(odd: dict[str, Any]) -> None:
    assert "not an event" in str(read(event(odd) + ANSWER).problem)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    reader = read(b"data: " + content + b"\n\n")

    assert reader.problem is not None
