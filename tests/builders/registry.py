"""Repositories on a new database, and uploads to fill them with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.controller.registry.versions import Upload


@dataclass
class Clock:
    """A clock that moves only when told."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def an_upload(
    content: str = "one",
    *,
    tenant: str = "acme",
    adapter: str = "support",
    promote_mode: str = "manual",
    idempotency_key: str | None = None,
) -> Upload:
    file = {"name": "adapter_config.json", "sha256": digest_of(content)[7:], "size_bytes": 10}
    return Upload(
        tenant_id=tenant,
        adapter=adapter,
        digest=digest_of(content),
        files=[file],
        created_by="ann",
        promote_mode=promote_mode,
        idempotency_key=idempotency_key,
    )


async def a_version(repository: Repository, upload: Upload, *, until: State) -> VersionRow:
    """Acknowledge `upload` and lead its version through a happy life up to `until`."""
    row, _ = await repository.versions.acknowledge(upload)
    if until is State.VALIDATING:
        return row
    await _apply(repository, row, State.VALIDATING, Move(event=Event.ACCEPT), rank=8)
    if until is State.EVALUATING:
        return await repository.versions.find(row.id)
    await conclude(repository, row, Verdict.PASS)
    if until is State.PASSED:
        return await repository.versions.find(row.id)
    if (await repository.versions.find(row.id)).state != State.STAGING:
        await repository.versions.promote(row.id, actor="ann")
    if until is State.STAGING:
        return await repository.versions.find(row.id)
    await switch(repository, row)
    return await repository.versions.find(row.id)


async def claim(repository: Repository, row: VersionRow, state: State) -> str:
    """Lease exactly this version."""
    for _ in range(100):
        found = await repository.work.claim_due([state], lease_seconds=30, owner="test")
        assert found is not None, f"{row.id} is not due in {state}"
        if found.id == row.id:
            assert found.lock_token is not None
            return found.lock_token
    raise AssertionError(f"{row.id} was never claimed")


async def conclude(repository: Repository, row: VersionRow, verdict: Verdict) -> None:
    token = await claim(repository, row, State.EVALUATING)
    report = {"verdict": verdict.value}
    assert await repository.work.conclude(row.id, token, verdict=verdict, report=report)


async def switch(repository: Repository, row: VersionRow) -> None:
    token = await claim(repository, row, State.STAGING)
    assert await repository.work.switch(row.id, token, rollback_seconds=3600)


async def _apply(
    repository: Repository, row: VersionRow, state: State, move: Move, **values: Any
) -> None:
    token = await claim(repository, row, state)
    assert await repository.work.apply(row.id, token, move, **values)
