"""Tenants acme and globex with a key each, on an engine that a contract test is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from serving.contract import (
    AliasEntry,
    EngineReport,
    KeyGrant,
    TenantEntry,
    TracePage,
    VersionEntry,
    VersionReport,
    engine_token,
    gate_key,
    hash_key,
)
from tests.builders.local_store import entry
from tests.builders.random_adapters import random_adapter
from tests.fakes.engine_under_test import SECRET, EngineUnderTest

PROMPT = [1, 2, 3, 4, 5]
GATE = gate_key(SECRET)


@dataclasses.dataclass
class Fleet:
    """One test's tenants acme and globex with a key each, on a shared engine."""

    engine: EngineUnderTest
    folder: Path
    acme: str = "lp_acme"
    globex: str = "lp_globex"

    def adapter(self, seed: int) -> Path:
        folder = self.folder / f"adapter-{seed}"
        return folder if folder.exists() else random_adapter(self.engine.base, folder, seed=seed)

    def entry(self, name: str, *, seed: int, **more: Any) -> VersionEntry:
        return entry(name, self.adapter(seed), self.engine.store, **more)

    def publish(self, *versions: VersionEntry, aliases: dict[str, int] | None = None) -> int:
        return self.engine.desired.publish(
            versions=list(versions),
            aliases=[
                AliasEntry(tenant=name.split("/")[0], adapter=name.split("/")[1], number=number)
                for name, number in (aliases or {}).items()
            ],
        )

    def settled(self, name: str, *, attempt: int = 0) -> VersionReport:
        return self.engine.desired.settled(name, attempt=attempt)

    def caught_up(self, revision: int) -> None:
        self.engine.desired.wait_until(lambda report: report.revision >= revision)

    def ask(self, key: str, model: str, *, max_tokens: int = 6) -> httpx.Response:
        body = {
            "model": model,
            "prompt": PROMPT,
            "max_tokens": max_tokens,
            "temperature": 0,
            "logprobs": 1,
            "return_token_ids": True,
        }
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.engine.url}/v1/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)

    def settled_report(self, name: str) -> EngineReport:
        self.settled(name)
        return next(iter(self.engine.desired.reports.values()))

    def trace_response(self, key: str, after: int = 0) -> httpx.Response:
        return httpx.get(
            f"{self.engine.url}/loraplane/v1/trace",
            params={"after": after, "limit": 10_000},
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=60,
            trust_env=False,
        )

    def trace(self, after: int = 0) -> TracePage:
        answer = self.trace_response(engine_token(SECRET), after)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=TracePage)

    def answer(self, key: str, model: str) -> tuple[str, list[int]]:
        response = self.ask(key, model)
        assert response.status_code == 200, response.text
        body = response.json()
        return body["model"], body["choices"][0]["token_ids"]


def tenants_on(engine: EngineUnderTest, folder: Path) -> Iterator[Fleet]:
    """Their fleet; afterwards the engine is empty again."""

    def grant(key: str, tenant: str, scopes: list[str]) -> KeyGrant:
        digest = hash_key(key, cluster_secret=SECRET)
        return KeyGrant(key_id=key, key_hash=digest, tenant=tenant, scopes=scopes)

    made = Fleet(engine, folder)
    engine.desired.publish(
        keys=[
            grant(GATE, "", ["gate"]),
            grant(made.acme, "acme", ["inference", "base"]),
            grant(made.globex, "globex", ["inference"]),
        ],
        tenants=[TenantEntry(tenant="acme"), TenantEntry(tenant="globex")],
    )
    yield made
    made.engine.desired.publish(residency=[])
    made.caught_up(made.publish())
