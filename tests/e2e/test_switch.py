"""Promotions and rollbacks under traffic: no error, no answer from a version it does not name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.engine
N_CLIENTS, N_MOVES = 8, 20
PROMPTS = [f"Guest {number} asks for" for number in range(6)]


async def client_loop(
    fleet: Fleet, key: str, stop: asyncio.Event, first: int
) -> list[tuple[int, str, str, str]]:
    seen = []
    async with httpx.AsyncClient(timeout=60) as client:
        turn = first
        while not stop.is_set():
            prompt = PROMPTS[turn % len(PROMPTS)]
            response = await client.post(
                f"{fleet.engine_url}/v1/completions",
                json={"model": "support", "prompt": prompt, "temperature": 0, "max_tokens": 12},
                headers={"Authorization": f"Bearer {key}"},
            )
            if response.status_code == 200:
                body = response.json()
                seen.append((200, body["model"], prompt, body["choices"][0]["text"]))
            else:
                seen.append((response.status_code, response.text, prompt, ""))
            turn += 1
    return seen


async def test_twenty_moves_under_traffic_lose_and_mix_nothing(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = fleet.tenant(tenant)
    name = f"{tenant}/support"
    for folder in adapters[:2]:
        await asyncio.to_thread(fleet.push_live, name, folder)
    known = {
        (f"{name}@{number}", prompt): fleet.answer(key, f"support@{number}", prompt)[1]
        for number in (1, 2)
        for prompt in PROMPTS
    }
    stop = asyncio.Event()
    clients = [
        asyncio.create_task(client_loop(fleet, key, stop, first)) for first in range(N_CLIENTS)
    ]
    path = f"/v1/tenants/{tenant}/adapters/support"

    for move in range(N_MOVES):
        target = 1 if move % 2 == 0 else 2
        if move % 4 < 2:
            await asyncio.to_thread(fleet.must, "POST", f"{path}/rollback")
        else:
            await asyncio.to_thread(fleet.must, "POST", f"{path}/versions/{target}/promote")
        await asyncio.to_thread(wait_answered_by, fleet, key, f"{name}@{target}")
    stop.set()
    seen = [row for rows in await asyncio.gather(*clients) for row in rows]

    assert [row for row in seen if row[0] != 200] == []
    assert [row for row in seen if known[row[1], row[2]] != row[3]] == []
    assert {row[1] for row in seen} == {f"{name}@1", f"{name}@2"}
    assert len(seen) > 10 * N_MOVES, "the traffic must be constant"


def wait_answered_by(fleet: Fleet, key: str, version: str) -> None:
    for _ in range(300):
        if fleet.answer(key, "support", PROMPTS[0])[0] == version:
            return
    raise AssertionError(f"the alias never reached {version}")
