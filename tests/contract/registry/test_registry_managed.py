"""The same promises on SQLite and PostgreSQL: which object manages an adapter, and what it gave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.controller.errors import NotFound
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.managed import Found, Manager
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.controller.registry.versions import Upload
from tests.builders.registry import a_version, an_upload, conclude, switch

ACTOR = "kubernetes:fleet/support"
MINE = Manager(uid="u1", namespace="fleet", name="support", retires=True)


def upload(content: str = "one", **chosen: Any) -> Upload:
    return replace(an_upload(content), created_by=ACTOR, **{"promote_mode": "auto", **chosen})


def found(content: str = "one", generation: int = 1) -> Found:
    return Found(generation=generation, source_uri="s3://m/x", source_mark=content)


async def register(
    repository: Repository, content: str = "one", manager: Manager = MINE
) -> VersionRow:
    row, _ = await repository.managed.register(upload(content), manager, found(content))
    return row


async def make_live(repository: Repository, content: str) -> VersionRow:
    await register(repository, content)
    return await a_version(repository, upload(content), until=State.LIVE)


async def state_of(repository: Repository, version: str) -> str:
    return (await repository.versions.find(version)).state


async def test_a_version_and_its_manager_are_remembered_at_once(repository: Repository) -> None:
    row = await register(repository)

    record = await repository.managed.find("acme", "support")
    assert record is not None
    assert (record.version_id, record.uid, record.retires) == (row.id, "u1", True)
    assert (record.source_uri, record.source_mark, record.generation) == ("s3://m/x", "one", 1)
    assert await repository.managed.all() == [record]
    assert await repository.managed.all(keys=[("acme", "sales")]) == []


async def test_the_same_bytes_again_are_the_same_version(repository: Repository) -> None:
    first, is_new = await repository.managed.register(upload(), MINE, found())
    again, is_new_again = await repository.managed.register(upload(), MINE, found("m2", 2))

    record = await repository.managed.find("acme", "support")
    assert (first.id, is_new, is_new_again) == (again.id, True, False)
    assert record is not None
    assert (record.generation, record.source_mark) == (2, "m2")


async def test_nothing_is_registered_for_a_tenant_that_is_not_there(
    repository: Repository,
) -> None:
    with pytest.raises(NotFound):
        await repository.managed.register(upload(tenant_id="globex"), MINE, found())

    assert await repository.managed.all() == []


async def test_taking_over_an_adapter_is_audited_and_following_the_same_object_is_not(
    repository: Repository,
) -> None:
    await register(repository)
    await repository.managed.follow("acme", "support", MINE, actor=ACTOR)
    other = replace(MINE, uid="u2", name="support-2", retires=False)

    await repository.managed.follow("acme", "support", other, actor="kubernetes:fleet/support-2")

    rows = await repository.audit.latest(subject="acme/support")
    record = await repository.managed.find("acme", "support")
    assert [(row.action, row.actor) for row in rows] == [
        ("manage_adapter", "kubernetes:fleet/support-2"), ("manage_adapter", ACTOR),
    ]  # fmt: skip
    assert rows[0].evidence == {"uid": "u2", "before": "u1"}
    assert record is not None
    assert (record.name, record.retires) == ("support-2", False)


async def test_versions_come_without_what_is_large(repository: Repository) -> None:
    row = await register(repository)

    rows = await repository.managed.versions([row.id])

    assert [item.id for item in rows] == [row.id]
    assert "files" not in rows[0].__dict__


async def test_going_back_holds_the_newer_one_that_is_on_its_way(repository: Repository) -> None:
    await make_live(repository, "one")
    newer = await register(repository, "two")

    back = await register(repository, "one")
    await a_version(repository, upload("two", promote_mode="manual"), until=State.PASSED)

    assert back.id == "acme/support@1"
    assert await state_of(repository, newer.id) == "passed"
    assert await state_of(repository, back.id) == "live"


async def test_going_back_withdraws_the_newer_one_that_is_being_staged(
    repository: Repository,
) -> None:
    await make_live(repository, "one")
    newer = await register(repository, "two")
    await a_version(repository, upload("two"), until=State.STAGING)

    await register(repository, "one")

    assert await state_of(repository, newer.id) == "passed"


async def test_going_on_leaves_the_older_one_alone(repository: Repository) -> None:
    older = await register(repository, "one")
    await register(repository, "two")

    assert (await repository.versions.find(older.id)).promote_mode == "auto"


async def test_a_wish_reaches_a_version_before_the_gate_answers_and_not_after(
    repository: Repository,
) -> None:
    row = await register(repository)
    wish = {"promote_mode": "manual", "suite_id": None, "actor": ACTOR}
    await repository.managed.wish(row.id, **wish)
    changed = (await repository.versions.find(row.id)).promote_mode

    await a_version(repository, upload(), until=State.EVALUATING)
    await conclude(repository, row, Verdict.PASS)
    await repository.managed.wish(row.id, **{**wish, "promote_mode": "auto"})

    assert changed == "manual"
    after = await repository.versions.find(row.id)
    assert (after.state, after.promote_mode) == ("passed", "manual")


async def test_asking_again_is_a_new_attempt(repository: Repository) -> None:
    row = await register(repository)
    await a_version(repository, upload(), until=State.EVALUATING)
    await conclude(repository, row, Verdict.INCONCLUSIVE)

    await repository.managed.ask_again(row.id, promote_mode="auto", suite_id=None, actor=ACTOR)

    after = await repository.versions.find(row.id)
    assert (after.state, after.attempt, after.verdict) == ("evaluating", 1, None)


async def test_releasing_with_retire_retires_what_the_object_registered_alone(
    repository: Repository,
) -> None:
    pushed = await a_version(repository, an_upload("by hand"), until=State.LIVE)
    await make_live(repository, "one")
    record = await repository.managed.find("acme", "support")
    assert record is not None

    retired = await repository.managed.release(record, actor=ACTOR, retire=True)

    audit = await repository.audit.latest(subject="acme/support@2", limit=1)
    assert retired == ["acme/support@2"]
    assert await state_of(repository, pushed.id) == "superseded"
    assert (audit[0].action, audit[0].actor) == ("retire", ACTOR)
    assert await repository.managed.all() == []
    assert await repository.fleet.aliases() == []


async def test_releasing_without_retire_touches_no_version(repository: Repository) -> None:
    row = await make_live(repository, "one")
    record = await repository.managed.find("acme", "support")
    assert record is not None

    assert await repository.managed.release(record, actor=ACTOR, retire=False) == []

    assert await state_of(repository, row.id) == "live"
    assert (await repository.fleet.aliases())[0].number == 1


async def test_a_record_that_another_object_took_over_is_not_released(
    repository: Repository,
) -> None:
    await make_live(repository, "one")
    old = await repository.managed.find("acme", "support")
    assert old is not None
    await repository.managed.follow("acme", "support", replace(MINE, uid="u2"), actor=ACTOR)

    assert await repository.managed.release(old, actor=ACTOR, retire=True) == []

    assert await repository.managed.find("acme", "support") is not None
    assert await state_of(repository, "acme/support@1") == "live"


async def test_a_superseded_version_of_the_object_is_retired_too(repository: Repository) -> None:
    await make_live(repository, "one")
    two = await register(repository, "two")
    await a_version(repository, upload("two"), until=State.STAGING)
    await switch(repository, two)
    record = await repository.managed.find("acme", "support")
    assert record is not None

    retired = await repository.managed.release(record, actor=ACTOR, retire=True)

    assert retired == ["acme/support@1", "acme/support@2"]
