"""Adapters written into a registry as uploads and the gate would have left them, in seconds.

Through the product's own tables and write lock, so that it works on both databases; only the way
there, an upload and an evaluation for each, is left out.
"""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

from sqlalchemy import insert

from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import (
    AdapterRow,
    AliasRow,
    KeyRow,
    TenantRow,
    VersionRow,
)
from serving.controller.registry.transactions import Unit

ADAPTERS_PER_TENANT = 10
SIZE_BYTES = 1_000_000
_PROBE_CASES, _PROBE_TOKENS = 3, 16
"""As many as the gate keeps of a version (`adapters.parity.probe_choice`)."""


def adapter_names(n_adapters: int) -> list[tuple[str, str]]:
    """(tenant, adapter) of each; ten adapters a tenant."""
    return [
        (f"tenant{number // ADAPTERS_PER_TENANT:04d}", f"adapter{number % ADAPTERS_PER_TENANT}")
        for number in range(n_adapters)
    ]


async def register_adapters(
    url: str, n_adapters: int, *, n_passed: int = 0, with_probes: bool = True
) -> float:
    """Make these adapters, each with a live version 1; seconds taken.

    The first `n_passed` have a version 2, too, that the gate has passed and nobody has promoted.
    """
    started = time.perf_counter()
    names, now = adapter_names(n_adapters), time.time()
    draw = random.Random(7)
    versions = [
        _version(tenant, adapter, 1, index, draw if with_probes else None, now)
        for index, (tenant, adapter) in enumerate(names)
    ] + [
        _version(tenant, adapter, 2, index, draw if with_probes else None, now)
        for index, (tenant, adapter) in enumerate(names[:n_passed])
    ]

    async def work(unit: Unit) -> None:
        tenants = sorted({tenant for tenant, _ in names})
        await unit.session.execute(insert(TenantRow), [_tenant(name, now) for name in tenants])
        await unit.session.execute(insert(KeyRow), [_key(name, now) for name in tenants])
        await unit.session.execute(
            insert(AdapterRow),
            [
                {"tenant_id": tenant, "name": adapter, "next_number": 3, "created_at": now}
                for tenant, adapter in names
            ],
        )
        await unit.session.execute(insert(VersionRow), versions)
        moved = {"number": 1, "moved_at": now, "moved_by": "bench"}
        await unit.session.execute(
            insert(AliasRow),
            [{"tenant_id": tenant, "adapter": adapter, **moved} for tenant, adapter in names],
        )
        unit.bump()

    repository = Repository(url)
    try:
        await repository.sessions.write(work)
    finally:
        await repository.close()
    return time.perf_counter() - started


def _tenant(name: str, now: float) -> dict[str, Any]:
    return {"id": name, "display_name": name, "created_at": now}


def _key(tenant: str, now: float) -> dict[str, Any]:
    return {
        "id": f"key-{tenant}",
        "tenant_id": tenant,
        "name": "bench",
        "prefix": "lp_bench",
        "key_hash": hashlib.sha256(tenant.encode()).hexdigest(),
        "scopes": ["inference", "read"],
        "fallback": "none",
        "created_at": now,
    }


def _version(
    tenant: str, adapter: str, number: int, index: int, draw: random.Random | None, now: float
) -> dict[str, Any]:
    name = f"{tenant}/{adapter}@{number}"
    content = hashlib.sha256(name.encode()).hexdigest()
    is_live = number == 1
    return {
        "id": name,
        "tenant_id": tenant,
        "adapter": adapter,
        "number": number,
        "digest": f"sha256:{content}",
        "files": [
            {"name": "adapter_config.json", "sha256": content, "size_bytes": 700},
            {"name": "adapter_model.safetensors", "sha256": content, "size_bytes": SIZE_BYTES},
        ],
        "size_bytes": SIZE_BYTES + 700,
        "rank": (4, 8, 16)[index % 3],
        "state": "live" if is_live else "passed",
        "verdict": "PASS",
        "promote_mode": "manual",
        "probe": None if draw is None else _probe(draw),
        "attempt": 0,
        "attempts": 0,
        "created_by": "bench",
        "created_at": now,
        "state_since": now,
        "live_since": now if is_live else None,
        "next_attempt_at": now,
    }


def _probe(draw: random.Random) -> dict[str, Any]:
    tokens = range(_PROBE_TOKENS)
    return {
        "cases": [
            {
                "prompt_token_ids": [draw.randrange(32_000) for _ in tokens],
                "expected_token_ids": [draw.randrange(32_000) for _ in tokens],
                "expected_logprobs": [-draw.random() for _ in tokens],
            }
            for _ in range(_PROBE_CASES)
        ],
        "max_mean_delta_nats": 0.05,
        "tie_margin_nats": 0.1,
    }
