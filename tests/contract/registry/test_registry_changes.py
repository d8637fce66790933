"""The same promises on SQLite and PostgreSQL: a look at what has changed finds all there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from serving.contract import EngineWishes, FleetSnapshot
from serving.controller.errors import LimitExceeded
from serving.controller.lifecycle import State
from serving.controller.registry.fleet import Fleet
from serving.controller.registry.repository import Repository
from serving.controller.registry.snapshot_rows import SnapshotRows
from serving.controller.registry.tables import KeyRow
from serving.controller.registry.transactions import Unit
from serving.controller.snapshot import Entries, compile_snapshot
from tests.builders.controller import a_report
from tests.builders.registry import Clock, a_version, an_upload


class Look:
    """A reader that has looked before, held against one that has not."""

    def __init__(self, repository: Repository) -> None:
        self.sessions = repository.sessions
        self._fleet, self._entries = Fleet(repository.sessions), Entries()

    async def rows(self) -> SnapshotRows:
        return await self._fleet.snapshot_rows()

    async def finds_everything(self) -> FleetSnapshot:
        kept = _compiled(await self.rows(), self._entries)
        assert kept == _compiled(await Fleet(self.sessions).snapshot_rows(), None)
        return kept


def _compiled(rows: SnapshotRows, entries: Entries | None) -> FleetSnapshot:
    return compile_snapshot(
        rows, fleet="b", store_url="file:///s", gate_key_hash="f", entries=entries
    )


@pytest.fixture
async def look(repository: Repository) -> Look:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await repository.tenants.add_key(_key("key_1"), actor="root")
    look = Look(repository)
    await look.rows()
    return look


@pytest.fixture
async def other(database_url: str, clock: Clock) -> AsyncIterator[Repository]:
    """Another controller on the same registry."""
    other = Repository(database_url, clock=clock)
    yield other
    await other.close()


def _key(name: str) -> KeyRow:
    return KeyRow(
        id=name, tenant_id="acme", key_hash=name, prefix="lp_12345678", scopes=["inference"],
        fallback="none", expires_at=None, name=name,
    )  # fmt: skip


async def test_each_kind_of_change_is_found(repository: Repository, look: Look) -> None:
    tenants, versions = repository.tenants, repository.versions

    await tenants.create("globex", display_name="Globex", max_in_flight=3, actor="root")
    assert [tenant.tenant for tenant in (await look.finds_everything()).tenants] == [
        "acme", "globex",
    ]  # fmt: skip
    await tenants.change("globex", max_in_flight=7, actor="root")
    assert (await look.finds_everything()).tenants[1].max_in_flight == 7
    await tenants.add_key(_key("key_2"), actor="root")
    await tenants.revoke_key("acme", "key_1", actor="root")
    assert [key.key_id for key in (await look.finds_everything()).keys] == ["gate", "key_2"]
    await a_version(repository, an_upload("two"), until=State.STAGING)
    assert [entry.number for entry in (await look.finds_everything()).versions] == [1, 2]
    await a_version(repository, an_upload("three"), until=State.LIVE)
    assert (await look.finds_everything()).aliases[0].number == 3
    await versions.retire("acme/support@3", actor="ann")
    assert (await look.finds_everything()).aliases == []
    await tenants.delete("acme", actor="root")
    assert (await look.finds_everything()).versions == []


async def test_changed_wishes_are_found(repository: Repository, look: Look) -> None:
    name = "acme/support@1"
    await repository.fleet.record_report(a_report())
    assert await repository.residency.claim("one", lease_seconds=30)

    await repository.residency.put_wishes("one", {"engine-0": EngineWishes("engine-0", [name])})
    assert (await look.finds_everything()).residency == [EngineWishes("engine-0", [name])]
    await repository.residency.clear_wishes()
    assert (await look.finds_everything()).residency == []


async def test_what_a_write_has_not_touched_is_not_read_again(
    repository: Repository, look: Look
) -> None:
    before = await look.rows()

    await a_version(repository, an_upload("two"), until=State.STAGING)
    staged = await look.rows()
    await repository.tenants.change("acme", max_in_flight=7, actor="root")
    changed = await look.rows()

    assert staged.keys is before.keys
    assert staged.tenants is before.tenants
    assert staged.aliases is before.aliases
    assert len(staged.versions) == 2
    assert changed.versions is staged.versions
    assert changed.tenants is not staged.tenants


async def test_what_another_controller_writes_is_found_among_our_own(
    repository: Repository, look: Look, other: Repository
) -> None:
    await other.tenants.create("globex", display_name="Globex", actor="root")
    await a_version(repository, an_upload("two"), until=State.LIVE)
    await other.versions.retire("acme/support@1", actor="ann")

    snapshot = await look.finds_everything()

    assert [tenant.tenant for tenant in snapshot.tenants] == ["acme", "globex"]
    assert [entry.number for entry in snapshot.versions] == [2]


@pytest.mark.parametrize("revision", ["revision + 1", "revision - 1", "revision - 2"])
async def test_what_is_written_by_others_who_know_no_tokens_is_found(
    repository: Repository, look: Look, revision: str
) -> None:
    """The controller of the version before, or a restored backup that our writes catch up with."""
    async with repository.sessions.writing_engine.begin() as connection:
        await connection.execute(text("UPDATE tenants SET max_in_flight = 5"))
        await connection.execute(text(f"UPDATE fleets SET revision = {revision}"))  # noqa: S608

    await repository.tenants.add_key(_key("key_2"), actor="root")
    first = await look.finds_everything()
    await repository.tenants.add_key(_key("key_3"), actor="root")

    assert first.tenants[0].max_in_flight == 5
    assert (await look.finds_everything()).tenants[0].max_in_flight == 5


async def test_what_is_written_past_the_mapper_is_found(repository: Repository, look: Look) -> None:
    async def work(unit: Unit) -> None:
        await unit.session.execute(text("UPDATE tenants SET max_in_flight = 5"))
        unit.bump()

    await repository.sessions.write(work)

    assert (await look.finds_everything()).tenants[0].max_in_flight == 5


async def test_a_write_that_was_rolled_back_has_changed_nothing(
    repository: Repository, look: Look
) -> None:
    async def work(unit: Unit) -> None:
        unit.bump()
        await unit.session.flush()
        raise LimitExceeded(what="tests", limit=0)

    before = await look.finds_everything()
    with pytest.raises(LimitExceeded):
        await repository.sessions.write(work)

    assert await look.finds_everything() == before
