"""Saturation load: so many clients that each send their next request when the last one is answered.

Throughput at a fixed number of requests in flight is what this measures. Its latencies are those of
a server that is never asked for more than it can do: right for comparing engines at the same
concurrency, wrong for saying what users feel when requests arrive by themselves
(`serving.tuning.generator` does that). Prompts are token ids, so that no tokenizer is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from serving.tuning.measure import LoadResult, Sample

_FIRST_TOKEN_ID, _LAST_TOKEN_ID = 100, 1000
"""Ordinary words in every vocabulary here; no special tokens below or above."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: whom to ask, and how much. `adapter` is a number for the result alone."""

    url: str
    model: str
    key: str | None
    adapter: int = 0
    n_prompt: int = 16
    n_output: int = 16


class AskFailed(Exception):
    """A request of a benchmark was not answered; what it would have measured does not exist."""


def prompt_of(number: int, n_tokens: int, *, seed: int = 0) -> list[int]:
    """Token ids of request `number`: no two prompts of a seed share a long prefix."""
    draw = random.Random(f"{seed}/{number}")
    return [draw.randint(_FIRST_TOKEN_ID, _LAST_TOKEN_ID) for _ in range(n_tokens)]


def run_closed_loop(asks: Sequence[Ask], *, in_flight: int, seed: int = 0) -> LoadResult:
    """Send all of them in this order, `in_flight` at once; due is when each was sent.

    Raises:
        AskFailed: one was not answered to its end.
    """
    return asyncio.run(closed_loop(asks, in_flight=in_flight, seed=seed))


async def closed_loop(asks: Sequence[Ask], *, in_flight: int, seed: int = 0) -> LoadResult:
    """As `run_closed_loop`, on a running loop."""
    queue = iter(enumerate(asks))
    samples: list[Sample] = []
    started = time.perf_counter()
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)

    async with httpx.AsyncClient(timeout=300, trust_env=False, limits=limits) as client:

        async def work() -> None:
            for number, ask in queue:
                samples.append(await send(client, ask, number, started=started, seed=seed))

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return LoadResult(tuple(sorted(samples, key=lambda sample: sample.due_at)))


async def send(
    client: httpx.AsyncClient, ask: Ask, number: int, *, started: float, seed: int = 0
) -> Sample:
    """Stream one greedy completion of exactly `ask.n_output` tokens.

    Raises:
        AskFailed: another status than 200, or a stream that ended without a token.
    """
    sent = time.perf_counter() - started
    token_at: list[float] = []
    headers = {} if ask.key is None else {"Authorization": f"Bearer {ask.key}"}
    body = body_of(ask, prompt_of(number, ask.n_prompt, seed=seed))
    url = f"{ask.url}/v1/completions"
    try:
        async with client.stream("POST", url, json=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                text = (await response.aread()).decode(errors="replace")[:500]
                raise AskFailed(f"{ask.model} at {ask.url}: {response.status_code} {text}")
            async for line in response.aiter_lines():
                if is_token(line):
                    token_at.append(time.perf_counter() - started)
    except httpx.HTTPError as exc:
        raise AskFailed(f"{ask.model} at {ask.url}: {exc!r}") from exc
    if not token_at:
        raise AskFailed(f"{ask.model} at {ask.url}: the stream held no token")
    ended = time.perf_counter() - started
    return Sample(
        "all", ask.adapter, sent, sent, token_at[0], tuple(token_at), ended,
        response.status_code, ask.n_prompt, ask.n_output, None,
    )  # fmt: skip


def body_of(ask: Ask, prompt: Sequence[int]) -> Mapping[str, Any]:
    """The request's JSON."""
    return {
        "model": ask.model,
        "prompt": list(prompt),
        "max_tokens": ask.n_output,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


def is_token(line: str) -> bool:
    """Whether a line of the stream carries a token, however little text that is."""
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: ")).get("choices")
    return bool(choices)
