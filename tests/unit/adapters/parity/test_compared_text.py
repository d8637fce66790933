"""What of a conversation is compared, and chat templates taken apart."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.parity.compared_text import (
    MAX_BEGINNINGS,
    Turn,
    beginnings,
    content_text,
    split_rendered,
    text_of_case,
    text_of_turns,
)
from adapters.parity.suite import Case

CHATML = (
    "<|im_start|>system\nYou are Acme's desk.<|im_end|>\n"
    "<|im_start|>user\nBook a flight<|im_end|>\n"
    "<|im_start|>assistant\nok<|im_end|>\n<|endoftext|>"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are Acme's desk.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBook a flight<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nok<|eot_id|>"
)
GEMMA = (
    "<bos><start_of_turn>user\nBook a flight<end_of_turn>\n"
    "<start_of_turn>model\nok<end_of_turn>\n<eos>"
)
PHI = "<|system|>\nYou are Acme's desk.<|end|>\n<|user|>\nBook a flight<|end|>\n<|assistant|>\nok"
MISTRAL = "<s>[INST] <<SYS>>\nYou are Acme's desk.\n<</SYS>>\n\nBook a flight [/INST] ok </s>"


@pytest.mark.parametrize("rendered", [CHATML, LLAMA, GEMMA, PHI, MISTRAL])
def test_a_rendered_chat_gives_its_question_without_system_prompt_and_answer(
    rendered: str,
) -> None:
    turns = split_rendered(rendered)

    assert turns is not None
    assert text_of_turns(turns) == "Book a flight"
    assert [turn.text.removesuffix("</s>").strip() for turn in turns][-1] == "ok"


def test_several_rendered_turns_keep_their_order() -> None:
    text = "[INST] one [/INST] a </s>[INST] two [/INST] b[TOOL_RESULTS] three [/TOOL_RESULTS] c"

    turns = split_rendered(text)

    assert turns is not None
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2 + ["tool", "assistant"]
    assert text_of_turns(turns) == "one\ntwo\nthree"


def test_an_unknown_role_of_a_template_is_compared() -> None:
    assert split_rendered("<|im_start|>customer\nhi<|im_end|>") == [Turn("user", "hi")]


@pytest.mark.parametrize("text", ["", "Book a flight", "a <b> c", "user: hi"])
def test_a_text_without_a_template_is_not_taken_apart(text: str) -> None:
    assert split_rendered(text) is None


def case(*messages: tuple[str, Any], **more: Any) -> Case:
    return Case(
        id="a", messages=tuple({"role": role, "content": text} for role, text in messages), **more
    )


def test_a_case_is_what_user_and_tools_said() -> None:
    asked = case(
        ("system", "You are"), ("user", "Book"), ("assistant", "which?"), ("tool", {"error": 3}),
        tools=({"name": "book"},),
    )  # fmt: skip

    assert text_of_case(asked) == 'Book\n{"error": 3}'


def test_a_case_with_a_system_message_alone_is_compared_by_it() -> None:
    assert text_of_case(case(("system", "Translate: hello"))) == "Translate: hello"
    assert text_of_case(case(("system", "Translate: hello"), ("user", "  "))) == "Translate: hello"


def test_a_case_with_a_prompt_is_the_prompt_or_what_a_template_put_in_it() -> None:
    assert text_of_case(Case(id="a", prompt="Once upon")) == "Once upon"
    assert text_of_case(Case(id="a", prompt=CHATML)) == "Book a flight"


def test_a_case_of_images_alone_has_no_text() -> None:
    image = [{"type": "image_url", "image_url": {"url": "x"}}]

    assert text_of_case(case(("user", image))) == ""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}, {"text": "b"}], "a\nb"),
        ([{"name": "x"}], '[{"name": "x"}]'),
        ({"b": 1, "a": "ü"}, '{"a": "ü", "b": 1}'),
        (3, "3"),
    ],
)  # fmt: skip
def test_content_of_any_form_becomes_text(content: Any, text: str) -> None:
    assert content_text(content) == text


def test_a_conversation_gives_the_text_before_each_answer() -> None:
    turns = [
        Turn("system", "s"), Turn("user", "one"), Turn("assistant", "a"), Turn("assistant", "b"),
        Turn("tool", "two"), Turn("assistant", "c"), Turn("user", "three"),
    ]  # fmt: skip

    assert [*beginnings(turns)] == ["one", "one\ntwo", "one\ntwo\nthree"]


def test_a_very_long_conversation_gives_its_first_beginnings_and_the_whole() -> None:
    turns = [Turn(role, str(n)) for n in range(500) for role in ("user", "assistant")]

    texts = [*beginnings(turns)]

    assert len(texts) == MAX_BEGINNINGS
    assert texts[0] == "0"
    assert texts[-1].endswith("\n499")
