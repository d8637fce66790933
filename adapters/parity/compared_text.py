"""What of a case or a training document is compared: what was asked, without what all share.

System prompts and tool schemas stand in every case, so with them all would look alike; answers
stand in the training set alone. So the text is what user and tools said, in order. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adapters.parity.suite import Case

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "observation": "tool",
    "ipython": "tool",
    "environment": "tool",
}
"""Names of roles in OpenAI messages, ShareGPT and the chat templates below -> ours."""

MAX_BEGINNINGS = 64
"""Beginnings of one conversation that are compared; arbitrary, bounds a line's cost."""

_HEADS = re.compile(
    r"<\|im_start\|>[ \t]*(?P<chatml>\w+)[ \t]*\n?"
    r"|<\|start_header_id\|>(?P<llama>\w+)<\|end_header_id\|>\s*"
    r"|<start_of_turn>(?P<gemma>\w+)\n?"
    r"|<\|(?P<phi>system|user|assistant|tool|observation)\|>\n?"
)
_TAIL = re.compile(
    r"(?:\s*(?:<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>|<end_of_turn>|<\|end\|>"
    r"|<\|endoftext\|>|</s>|<eos>))+\s*\Z"
)
_INSTRUCTION = re.compile(
    r"\[INST\](?:\s*<<SYS>>.*?<</SYS>>)?(?P<user>.*?)\[/INST\]"
    r"|\[TOOL_RESULTS\](?P<tool>.*?)\[/TOOL_RESULTS\]",
    re.DOTALL,
)


class Turn(NamedTuple):
    """One message: `role` is system, user, assistant or tool."""

    role: str
    text: str


def text_of_case(case: Case) -> str:
    """What the case asks: its user and tool messages, or its prompt."""
    if case.messages is None:
        prompt = case.prompt or ""
        turns = split_rendered(prompt)
        return prompt if turns is None else text_of_turns(turns)
    return text_of_turns(
        Turn(ROLES.get(str(message.get("role")), "user"), content_text(message.get("content")))
        for message in case.messages
    )


def text_of_turns(turns: Iterable[Turn]) -> str:
    """User and tool texts in order, a line each; of a conversation without any, the system's.

    A conversation that has neither asks all that it asks in its system message.
    """
    said = list(turns)
    asked = [turn.text for turn in said if turn.role in {"user", "tool"} and turn.text.strip()]
    return "\n".join(asked or [turn.text for turn in said if turn.role == "system"])


def beginnings(turns: Sequence[Turn]) -> Iterator[str]:
    """What a model is trained to go on from: the text before each answer, and the whole.

    A case may be any beginning of a conversation, and the whole is not like its beginning. At most
    `MAX_BEGINNINGS`, the last always among them.
    """
    ends = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    seen = ""
    for end in [*ends[: MAX_BEGINNINGS - 1], len(turns)]:
        text = text_of_turns(turns[:end])
        if text and text != seen:
            seen = text
            yield text


def content_text(content: Any) -> str:
    """A message's content as text: a string, the text parts of a list, or JSON of a tool's."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        parts = (part.get("text") for part in content)
        texts = [part for part in parts if isinstance(part, str)]
        if texts or any("type" in part for part in content):
            return "\n".join(texts)
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def split_rendered(text: str) -> list[Turn] | None:
    """The turns of a text that a chat template made; None where no known template shows.

    Known: ChatML (Qwen, Hermes), Llama 3, Gemma, Phi and Zephyr, Mistral and Llama 2.
    """
    heads = list(_HEADS.finditer(text))
    if heads:
        ends = [*(head.start() for head in heads[1:]), len(text)]
        return [
            Turn(_role(head), _TAIL.sub("", text[head.end() : end]).strip())
            for head, end in zip(heads, ends, strict=True)
        ]
    turns = []
    end = 0
    for match in _INSTRUCTION.finditer(text):
        if end:
            turns.append(Turn("assistant", text[end : match.start()]))
        role = "tool" if match["user"] is None else "user"
        turns.append(Turn(role, match[role].strip()))
        end = match.end()
    return [*turns, Turn("assistant", text[end:])] if turns else None


def _role(head: re.Match[str]) -> str:
    name = next(name for name in head.groups() if name is not None)
    # A role that nobody knows asks something: better compared than left out.
    return ROLES.get(name.lower(), "user")
