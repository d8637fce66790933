"""The same promises on SQLite and PostgreSQL: policies are numbered by scope and never changed."""

from __future__ import annotations

import asyncio

import pytest

from serving.controller.errors import NotFound
from serving.controller.registry.policies import PolicyScope
from serving.controller.registry.repository import Repository

FLEET, ACME, SUPPORT = PolicyScope(), PolicyScope("acme"), PolicyScope("acme", "support")


async def put(repository: Repository, scope: PolicyScope, margin: float) -> tuple[int, bool]:
    row, is_new = await repository.policies.put(scope, {"margin": margin}, actor="root")
    return row.number, is_new


async def test_each_scope_counts_its_own_policies(repository: Repository) -> None:
    assert await put(repository, FLEET, 0.1) == (1, True)
    assert await put(repository, FLEET, 0.2) == (2, True)
    assert await put(repository, SUPPORT, 0.3) == (1, True)

    assert await repository.policies.find(ACME) is None
    latest = await repository.policies.find(FLEET)
    old = await repository.policies.find(FLEET, number=1)
    assert latest is not None
    assert old is not None
    assert (latest.content, old.content) == ({"margin": 0.2}, {"margin": 0.1})


async def test_what_reaches_an_adapter_comes_widest_first(repository: Repository) -> None:
    for scope in (SUPPORT, FLEET, ACME, PolicyScope("acme", "other")):
        await put(repository, scope, 0.1)

    rows = await repository.policies.in_force(SUPPORT)

    assert [row.scope for row in rows] == ["fleet", "tenant", "adapter"]
    assert [row.scope for row in await repository.policies.in_force(ACME)] == ["fleet", "tenant"]


async def test_a_change_is_audited_with_both_contents_and_no_change_is_not(
    repository: Repository,
) -> None:
    await put(repository, ACME, 0.1)
    assert await put(repository, ACME, 0.1) == (1, False)
    await put(repository, ACME, 0.2)

    rows = await repository.audit.latest(subject="policy:acme")

    assert [row.action for row in rows] == ["put_policy", "put_policy"]
    assert rows[0].tenant_id == "acme"
    assert rows[0].actor == "root"
    assert rows[0].evidence == {
        "old_number": 1,
        "new_number": 2,
        "old": {"margin": 0.1},
        "new": {"margin": 0.2},
    }


async def test_writers_at_the_same_time_get_different_numbers(repository: Repository) -> None:
    results = await asyncio.gather(*(put(repository, FLEET, n / 10) for n in range(1, 6)))

    assert sorted(number for number, _ in results) == [1, 2, 3, 4, 5]


async def test_a_policy_needs_its_tenant_but_not_yet_its_adapter(repository: Repository) -> None:
    with pytest.raises(NotFound):
        await put(repository, PolicyScope("nobody"), 0.1)

    assert await put(repository, PolicyScope("acme", "not-pushed-yet"), 0.1) == (1, True)
    with pytest.raises(ValueError, match="names its tenant"):
        PolicyScope(adapter="support")
