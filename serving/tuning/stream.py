"""Reads one streamed answer (Server-Sent Events of OpenAI's API): when tokens came, and how many.

Pure: it is given bytes and the time at which they arrived.
"""

from __future__ import annotations

from typing import Any

import msgspec

_Decode = msgspec.json.Decoder(dict[str, Any]).decode

_GIVEN_UP = ("abort", "error")
"""Reasons of vLLM 0.32 (v1/engine, FinishReason) that end an answer before its last token."""


class StreamReader:
    """Takes a stream's bytes as they come, in pieces of any cut."""

    def __init__(self, *, chat: bool = False) -> None:
        self.token_at: list[float] = []
        """When each event that held tokens came; events of one read came at the same time."""
        self.n_prompt: int | None = None
        self.n_output: int | None = None
        """Both as the server counted them; None: it did not say."""
        self._has_tokens = _chat_has_tokens if chat else _completion_has_tokens
        self._is_finished = False
        self._error: str | None = None
        self._rest = b""

    def feed(self, piece: bytes, at: float) -> None:
        """More bytes, and when they came."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._read(line.removeprefix(b"data:").strip(), at)

    @property
    def problem(self) -> str | None:
        """Why the answer is no whole one, now that its stream has ended; None: it is."""
        if self._error is not None:
            return self._error
        return None if self._is_finished else "the stream ended before the answer did"

    def _read(self, data: bytes, at: float) -> None:
        if data == b"[DONE]":
            return
        try:
            event = _Decode(data)
        except msgspec.DecodeError:
            self._error = f"not JSON in the stream: {data[:100]!r}"
            return
        if event.get("error"):
            self._error = f"error in the stream: {event['error']}"[:300]
        choices, usage = event.get("choices") or (), event.get("usage") or {}
        if not isinstance(usage, dict) or not _are_objects(choices):
            self._error = f"not an event of this API: {data[:100]!r}"
            return
        for choice in choices:
            self._read_choice(choice, at)
        if usage:
            self.n_prompt = usage.get("prompt_tokens")
            self.n_output = usage.get("completion_tokens")

    def _read_choice(self, choice: dict[str, Any], at: float) -> None:
        reason = choice.get("finish_reason")
        if reason in _GIVEN_UP:
            self._error = f"the engine ended the answer: {reason}"
        self._is_finished = self._is_finished or reason is not None
        if self._has_tokens(choice):
            self.token_at.append(at)


def _are_objects(choices: Any) -> bool:
    is_list = isinstance(choices, list | tuple)
    return is_list and all(isinstance(choice, dict) for choice in choices)


def _completion_has_tokens(choice: dict[str, Any]) -> bool:
    # Half a character is a token without a text yet; vLLM 0.32 sends an event for it all the same.
    return "text" in choice


def _chat_has_tokens(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls"))
