"""Base-model rows in a batch with adapter rows get exactly the base model's answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.engine
PROMPTS = [f"Story number {number} begins" for number in range(8)]


async def ask_all(fleet: Fleet, key: str, models: list[str]) -> list[tuple[str, str, str]]:
    async with httpx.AsyncClient(timeout=120) as client:

        async def ask(model: str, prompt: str) -> tuple[str, str, str]:
            response = await client.post(
                f"{fleet.engine_url}/v1/completions",
                json={"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 24},
                headers={"Authorization": f"Bearer {key}"},
            )
            response.raise_for_status()
            body = response.json()
            return body["model"], prompt, body["choices"][0]["text"]

        return await asyncio.gather(
            *(ask(model, prompt) for prompt, model in zip(PROMPTS * 2, models, strict=False))
        )


async def test_base_rows_beside_adapter_rows_are_answered_by_the_base_alone(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = await asyncio.to_thread(fleet.tenant, tenant, scopes=["inference", "base"])
    for index in range(3):
        await asyncio.to_thread(fleet.push_live, f"{tenant}/a{index}", adapters[index])
    models = ["base", "a0", "a1", "a2"]
    alone = {}
    for model in models:
        for name, prompt, text in await ask_all(fleet, key, [model] * len(PROMPTS)):
            alone[model, prompt] = (name, text)

    mixed: list[tuple[str, str, str, str]] = []
    for shift in range(4):
        mix = [models[(index + shift) % 4] for index in range(2 * len(PROMPTS))]
        rows = await ask_all(fleet, key, mix)
        mixed += [(model, *row) for model, row in zip(mix, rows, strict=True)]

    wrong = [row for row in mixed if alone[row[0], row[2]] != (row[1], row[3])]
    assert wrong == []
    assert len({text for (model, prompt), (_, text) in alone.items() if prompt == PROMPTS[0]}) == 4
