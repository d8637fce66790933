"""Saturation load keeps its requests in flight, and one that fails is no figure."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from bench.closed_loop import Ask, AskFailed, is_token, prompt_of, send

ASK = Ask("http://engine", "support", "key", adapter=3, n_prompt=4, n_output=2)


def ask(reply: httpx.Response) -> object:
    async def go() -> object:
        transport = httpx.MockTransport(lambda _request: reply)
        async with httpx.AsyncClient(transport=transport) as client:
            return await send(client, ASK, 1, started=0.0)

    return asyncio.run(go())


def test_each_token_of_a_stream_is_timed() -> None:
    lines = [json.dumps({"choices": [{"text": word}]}) for word in ("a", "")]
    text = "".join(f"data: {line}\n\n" for line in [*lines, '{"usage": {}}', "[DONE]"])

    sample = ask(httpx.Response(200, text=text))

    assert len(sample.token_at) == 2  # type: ignore[attr-defined]
    assert (sample.adapter, sample.n_prompt, sample.n_output) == (3, 4, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "reply", [httpx.Response(503, text="busy"), httpx.Response(200, text="data: [DONE]\n\n")]
)
def test_a_request_that_fails_or_answers_nothing_ends_the_measurement(
    reply: httpx.Response,
) -> None:
    with pytest.raises(AskFailed, match="support"):
        ask(reply)


def test_prompts_are_repeatable_and_differ_from_the_first_block_on() -> None:
    assert prompt_of(1, 8, seed=2) == prompt_of(1, 8, seed=2)
    assert prompt_of(1, 8, seed=2)[:4] != prompt_of(2, 8, seed=2)[:4]
    assert len(prompt_of(1, 8)) == 8


def test_only_a_line_with_a_choice_is_a_token() -> None:
    assert is_token('data: {"choices": [{"text": ""}]}')
    assert not any(map(is_token, ("", "data: [DONE]", 'data: {"choices": []}', ": comment")))
