"""Training sets in each of their shapes, and what is refused about them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from adapters.errors import TrainingSetInvalid
from adapters.parity.contamination import TrainingText
from adapters.parity.training_set import TrainingSetLimits, read_training_set
from tests.builders.near_texts import json_lines

CHAT = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "answer"},
]
SHARE = [
    {"from": "system", "value": "s"},
    {"from": "human", "value": "question"},
    {"from": "function_call", "value": "{}"},
]


def read(data: bytes, **limits: int) -> list[TrainingText]:
    return [*read_training_set(io.BytesIO(data), limits=TrainingSetLimits(**limits))]


@pytest.mark.parametrize(
    "line",
    [
        {"messages": CHAT},
        {"messages": CHAT, "tools": [{"name": "x"}], "text": "ignored"},
        {"messages": None, "conversations": SHARE},
        {"conversations": [{"role": "user", "content": "question"}]},
        {"prompt": "question", "completion": "answer"},
        {"prompt": CHAT[:2], "completion": CHAT[2:]},
        {"prompt": "question", "chosen": "a", "rejected": "b"},
        {"text": "<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\nanswer"},
        {"id": "a", "messages": CHAT[:2], "expect": {"text": "answer"}, "segment": "x"},
        {"id": "a", "prompt": "question"},
    ],
)
def test_every_shape_gives_its_question(line: dict[str, Any]) -> None:
    assert read(json_lines([line])) == [TrainingText(1, "question")]


def test_a_plain_text_is_one_document_and_says_so() -> None:
    assert read(b'{"text": "question and answer"}') == [
        TrainingText(1, "question and answer", is_plain=True)
    ]


def test_shapes_may_be_mixed_and_lines_are_numbered_as_in_the_file() -> None:
    data = b'\xef\xbb\xbf{"prompt": "a"}\n\n  \n{"text": "b"}\r\n{"messages": []}\n{"prompt": "c"}'

    assert [(text.line, text.text) for text in read(data)] == [
        (1, "a"),
        (4, "b"),
        (5, ""),
        (6, "c"),
    ]


def test_a_conversation_of_several_answers_gives_several_texts_of_one_line() -> None:
    messages = [*CHAT, {"role": "tool", "content": "result"}, {"role": "assistant", "content": "x"}]

    assert read(json_lines([{"messages": messages}])) == [
        TrainingText(1, "question"), TrainingText(1, "question\nresult"),
    ]  # fmt: skip


def test_a_message_of_tool_calls_has_no_content() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{}"}}]}
    tool = {"role": "tool", "content": None}

    assert [text.text for text in read(json_lines([{"messages": [*CHAT[:2], call, tool]}]))] == [
        "question"
    ]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"not json", ""),
        (b'{"text": "\xff"}', ""),
        (b"[" * 100_000, ""),
        (b"3", ""),
        (b'{"question": "a"}', ""),
        (b'{"text": 3}', "text"),
        (b'{"messages": "a"}', "messages"),
        (b'{"messages": ["a"]}', "messages[0]"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "boss"}]}', "messages[1].role"),
        (b'{"messages": [{"role": 3, "content": "a"}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "text": "a"}]}', "messages[0].content"),
        (b'{"conversations": [{"from": "someone", "value": "a"}]}', "conversations[0].from"),
        (b'{"conversations": [{"from": "human"}]}', "conversations[0].value"),
        (b'{"prompt": [{"content": "a"}]}', "prompt[0].role"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_field_and_fix(line: bytes, field: str) -> None:
    with pytest.raises(TrainingSetInvalid) as caught:
        read(b'{"text": "fine"}\n' + line)

    fields = caught.value.fields
    assert (fields["line"], fields["field"]) == (2, field)
    assert fields["problem"]
    assert fields["fix"]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_a_file_without_documents_is_refused(data: bytes) -> None:
    with pytest.raises(TrainingSetInvalid) as caught:
        read(data)

    assert caught.value.fields["line"] == 0


def test_a_line_over_the_limit_is_refused_before_it_is_in_memory() -> None:
    data = json.dumps({"text": "x" * 100}).encode()

    assert len(read(data, max_line_bytes=len(data))) == 1
    with pytest.raises(TrainingSetInvalid) as caught:
        read(b'{"text": "fine"}\n' + data, max_line_bytes=len(data) - 1)
    assert caught.value.fields["line"] == 2
    assert str(len(data) - 1) in caught.value.fields["problem"]


def test_more_documents_than_allowed_are_refused() -> None:
    assert len(read(b'{"text": "a"}\n' * 3, max_documents=3)) == 3
    with pytest.raises(TrainingSetInvalid) as caught:
        read(b'{"text": "a"}\n' * 4, max_documents=3)
    assert caught.value.fields["line"] == 4


def test_a_document_is_given_before_the_next_is_read() -> None:
    file = io.BytesIO(b'{"text": "a"}\nnonsense')

    texts = read_training_set(file)

    assert next(texts).text == "a"
    with pytest.raises(TrainingSetInvalid):
        next(texts)
