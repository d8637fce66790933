"""Traffic through the front, every request accounted for, and the front's own account of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_MAX_IN_FLIGHT = 32
_SECONDS = 180.0


@dataclass(frozen=True)
class Fate:
    """What became of one request."""

    tenant: str
    is_stream: bool
    status: int
    models: frozenset[str]
    """Named by the answer, or by any part of the stream."""
    n_tokens: int
    """Counted by the engine, as its last words say."""
    reason: str
    """Why it ended; the name of the error where it never did."""
    request_id: str = field(default="", compare=False)
    """As the front's access log has it."""

    def is_whole(self, model: str, n_tokens: int) -> bool:
        """Answered completely, by this version alone."""
        return (self.status, self.models, self.n_tokens, self.reason) == (
            200,
            frozenset({model}),
            n_tokens,
            "length",
        )


async def send_until(
    stop: asyncio.Event,
    url: str,
    keys: Mapping[str, str],
    *,
    per_second: float,
    n_tokens: int,
) -> list[Fate]:
    """One request after another at this rate, streams and others in turn, whoever has answered.

    Bounded: at most 32 are in flight. Ends with the fate of every one that was sent.
    """
    fates: list[asyncio.Task[Fate]] = []
    places = asyncio.Semaphore(_MAX_IN_FLIGHT)
    kinds = itertools.cycle(itertools.product(keys, (True, False)))
    async with httpx.AsyncClient(base_url=url, timeout=_SECONDS, trust_env=False) as client:
        for number, (tenant, is_stream) in enumerate(kinds):
            if stop.is_set():
                break
            await places.acquire()
            body = {
                "model": "support",
                "prompt": f"Dear {tenant}, question {number}:",
                "max_tokens": n_tokens,
                "temperature": 0,
                "ignore_eos": True,
            }
            task = asyncio.create_task(_ask(client, tenant, keys[tenant], body, is_stream))
            task.add_done_callback(lambda _: places.release())
            fates.append(task)
            await asyncio.sleep(1 / per_second)
        return list(await asyncio.gather(*fates))


async def _ask(
    client: httpx.AsyncClient, tenant: str, key: str, body: dict[str, Any], is_stream: bool
) -> Fate:
    headers = {"Authorization": f"Bearer {key}"}
    if is_stream:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                text = (await answer.aread()).decode(errors="replace")
                number = answer.headers.get("x-request-id", "")
                return Fate(
                    tenant, is_stream, answer.status_code, frozenset(), 0, text[:300], number
                )
            if not is_stream:
                return _whole(tenant, [json.loads(await answer.aread())], is_stream=False)
            lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    except httpx.TransportError as error:
        return Fate(tenant, is_stream, 0, frozenset(), 0, type(error).__name__)
    if not lines or lines[-1] != "data: [DONE]":
        return Fate(tenant, True, 200, frozenset(), 0, "the stream has no end")
    return _whole(tenant, [json.loads(line[6:]) for line in lines[:-1]], is_stream=True)


def _whole(tenant: str, parts: list[dict[str, Any]], *, is_stream: bool) -> Fate:
    reasons = [
        choice["finish_reason"]
        for part in parts
        for choice in part.get("choices", ())
        if choice.get("finish_reason")
    ]
    usage = parts[-1].get("usage") or {}
    return Fate(
        tenant,
        is_stream,
        200,
        frozenset(part.get("model", "") for part in parts),
        int(usage.get("completion_tokens", 0)),
        reasons[-1] if reasons else "no reason",
    )


@dataclass(frozen=True)
class Passed:
    """A request as the front's access log has it."""

    engine: str
    """Address that answered; empty where none did."""
    status: int
    attempts: int
    began_at: float
    ended_at: float


def read_front_log(path: Path) -> list[Passed]:
    """Requests of tenants that are over; the front writes each some seconds late."""
    found = []
    for line in path.read_text().splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        began = dt.datetime.fromisoformat(row["time"]).timestamp()
        found.append(
            Passed(
                engine=str(row["engine"] or "").partition(":")[0],
                status=int(row["status"]),
                attempts=int(row["attempts"] or 0),
                began_at=began,
                ended_at=began + float(row["milliseconds"] or 0) / 1000,
            )
        )
    return found
