"""The fence: what a leader writes counts until a later term begins, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serving.controller.errors import Deposed
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.rechecks import RecheckResult
from serving.controller.registry.repository import Repository
from serving.controller.registry.transactions import Unit
from serving.controller.staleness import Proof, StaleReason
from tests.builders.registry import a_version, an_upload

NOW = Proof("vllm 2", "base", "float32")
PASSED = RecheckResult(
    reason=StaleReason(now=NOW, was=Proof("vllm 1", "base", "float32")),
    verdict=Verdict.PASS,
    reasons=[],
    report={},
    probe=None,
    rollback_seconds=None,
)


async def test_there_is_no_term_before_the_first_leader(repository: Repository) -> None:
    assert await repository.leadership.term() == 0
    assert repository.under(None) is repository


async def test_terms_only_grow(repository: Repository) -> None:
    await repository.leadership.take(3)

    for term in (2, 3):
        with pytest.raises(Deposed) as caught:
            await repository.leadership.take(term)
        assert caught.value.fields == {"term": term, "present": 3}
    await repository.leadership.take(7)

    assert await repository.leadership.term() == 7


async def test_of_many_who_take_the_same_term_one_has_it(repository: Repository) -> None:
    taken = await asyncio.gather(
        *(repository.leadership.take(1) for _ in range(8)), return_exceptions=True
    )

    assert sorted(type(item).__name__ for item in taken) == ["Deposed"] * 7 + ["NoneType"]


WRITES: dict[str, Callable[[Repository, str, str], Awaitable[object]]] = {
    "renew": lambda led, row, token: led.work.renew(row, token, lease_seconds=9),
    "apply": lambda led, row, token: led.work.apply(row, token, Move(event=Event.ACCEPT), rank=8),
    "put_off": lambda led, row, token: led.work.apply(row, token, retry_after_seconds=1.0),
    "conclude": lambda led, row, token: led.work.conclude(
        row, token, verdict=Verdict.PASS, report={}
    ),
    "switch": lambda led, row, token: led.work.switch(row, token, rollback_seconds=60),
    "noise": lambda led, row, token: led.work.save_noise_floor("vllm 1", "base", "float32", {}),
    "recheck_claim": lambda led, row, token: led.rechecks.claim(row, lease_seconds=9, owner="old"),
    "recheck_put_off": lambda led, row, token: led.rechecks.put_off(row, token, None),
    "recheck_conclude": lambda led, row, token: led.rechecks.conclude(row, token, PASSED),
    "acknowledge": lambda led, row, token: led.versions.acknowledge(an_upload("two")),
    "retire": lambda led, row, token: led.versions.retire(row, actor="old"),
    "wishes": lambda led, row, token: led.residency.put_wishes("old", {}),
}


@pytest.mark.parametrize("write", sorted(WRITES))
async def test_a_deposed_leader_writes_nothing(repository: Repository, write: str) -> None:
    row = await a_version(repository, an_upload("one"), until=State.VALIDATING)
    await repository.leadership.take(1)
    old = repository.under(1)
    claimed = await old.work.claim_due([State.VALIDATING], lease_seconds=30, owner="old")
    assert claimed is not None

    await repository.leadership.take(2)
    before = await state_of(repository)
    with pytest.raises(Deposed):
        await WRITES[write](old, row.id, str(claimed.lock_token))

    assert await state_of(repository) == before


async def test_a_deposed_leader_claims_nothing(repository: Repository) -> None:
    await a_version(repository, an_upload("one"), until=State.VALIDATING)
    await repository.leadership.take(1)
    old = repository.under(1)
    await repository.leadership.take(2)

    with pytest.raises(Deposed):
        await old.work.claim_due([State.VALIDATING], lease_seconds=30, owner="old")


async def test_what_the_old_leader_worked_on_is_free_for_the_new_one_at_once(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload("one"), until=State.VALIDATING)
    await repository.leadership.take(1)
    await repository.under(1).work.claim_due([State.VALIDATING], lease_seconds=900, owner="old")

    await repository.leadership.take(2)
    new = repository.under(2)
    claimed = await new.work.claim_due([State.VALIDATING], lease_seconds=30, owner="new")

    assert claimed is not None
    assert (claimed.id, claimed.lock_owner) == (row.id, "new")
    assert await new.work.apply(row.id, str(claimed.lock_token), Move(event=Event.ACCEPT), rank=8)
    assert (await repository.versions.find(row.id)).state == State.EVALUATING


async def test_what_people_ask_of_any_replica_is_not_fenced(repository: Repository) -> None:
    row = await a_version(repository, an_upload("one"), until=State.VALIDATING)
    await repository.leadership.take(1)
    await repository.leadership.take(2)

    retired = await repository.versions.retire(row.id, actor="ann")

    assert retired.state == State.RETIRED


async def test_an_older_backup_under_a_running_leader_gets_its_term_again(
    repository: Repository,
) -> None:
    await repository.leadership.take(5)
    leader = repository.under(9)

    await leader.versions.acknowledge(an_upload("one"))

    assert await repository.leadership.term() == 9


async def state_of(repository: Repository) -> object:
    rows = await repository.versions.all()
    return (
        [(row.id, row.state, row.lock_token, row.attempts, row.verdict) for row in rows],
        [row.id for row in await repository.audit.latest()],
        await repository.work.noise_floor("vllm 1", "base", "float32"),
        await repository.fleet.revision(),
    )


async def test_a_writer_that_is_frozen_keeps_nobody_from_writing_for_long(
    database_url: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite's lock ends with the process; replicas need PostgreSQL")
    monkeypatch.setattr("serving.controller.registry.transactions._ABANDONED_SECONDS", 1)
    frozen, is_inside = Repository(database_url), asyncio.Event()

    async def never_ends(unit: Unit) -> None:
        is_inside.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(frozen.sessions.write(never_ends))
    await is_inside.wait()

    async with asyncio.timeout(60):
        await repository.tenants.create("other", display_name="Other", actor="root")

    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await frozen.close()
