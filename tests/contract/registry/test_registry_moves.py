"""The same promises on SQLite and PostgreSQL: what a move changes."""

from __future__ import annotations

import pytest

from serving.controller.errors import IllegalTransition, NothingToRollBack, OverrideNeeded
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from tests.builders.registry import Clock, a_version, an_upload, claim, conclude, switch


async def alias_of(repository: Repository) -> tuple[int, int | None] | None:
    rows = await repository.fleet.aliases(tenant_id="acme")
    return (rows[0].number, rows[0].previous_number) if rows else None


async def state_of(repository: Repository, version_id: str) -> str:
    return (await repository.versions.find(version_id)).state


async def test_a_version_goes_live_and_its_alias_points_to_it(repository: Repository) -> None:
    row = await a_version(repository, an_upload(), until=State.LIVE)

    assert row.id == "acme/support@1"
    assert row.state == "live"
    assert await alias_of(repository) == (1, None)


async def test_the_second_version_supersedes_the_first_in_one_revision(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    two = await a_version(repository, an_upload("two"), until=State.STAGING)
    before = await repository.fleet.revision()

    await switch(repository, two)

    assert await repository.fleet.revision() == before + 1
    assert await state_of(repository, "acme/support@1") == "superseded"
    assert await alias_of(repository) == (2, 1)


async def test_a_rollback_and_a_second_one_go_back_and_forth(repository: Repository) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await a_version(repository, an_upload("two"), until=State.LIVE)

    async def roll_back() -> str:
        row = await repository.versions.roll_back(
            "acme", "support", actor="ann", rollback_seconds=60
        )
        return row.id

    assert await roll_back() == "acme/support@1"
    assert await alias_of(repository) == (1, 2)
    assert await roll_back() == "acme/support@2"
    assert await state_of(repository, "acme/support@1") == "superseded"


async def test_a_first_version_cannot_be_rolled_back(repository: Repository) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)

    with pytest.raises(NothingToRollBack):
        await repository.versions.roll_back("acme", "support", actor="ann", rollback_seconds=60)


async def test_a_rollback_withdraws_a_version_that_is_on_its_way(repository: Repository) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await a_version(repository, an_upload("two"), until=State.LIVE)
    await a_version(repository, an_upload("three"), until=State.STAGING)

    await repository.versions.roll_back("acme", "support", actor="ann", rollback_seconds=60)

    assert await state_of(repository, "acme/support@3") == "passed"
    assert await alias_of(repository) == (1, 2)


async def test_the_target_of_a_rollback_that_is_being_restaged_is_withdrawn_only_if_other(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await a_version(repository, an_upload("two"), until=State.LIVE)
    await repository.versions.promote("acme/support@1", actor="ann")

    with pytest.raises(NothingToRollBack):
        await repository.versions.roll_back("acme", "support", actor="ann", rollback_seconds=60)


async def test_promoting_another_version_withdraws_the_one_in_staging(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload("one"), until=State.STAGING)

    await a_version(repository, an_upload("two"), until=State.STAGING)

    assert await state_of(repository, "acme/support@1") == "passed"


async def test_a_version_without_pass_needs_a_reason_which_the_audit_keeps(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload(), until=State.EVALUATING)
    await conclude(repository, row, Verdict.FAIL)

    with pytest.raises(OverrideNeeded):
        await repository.versions.promote(row.id, actor="ann")
    await repository.versions.promote(row.id, actor="ann", override_reason="the suite is wrong")

    (audit, *_) = await repository.audit.latest(subject=row.id)
    assert (audit.action, audit.actor, audit.reason) == ("override", "ann", "the suite is wrong")
    assert (audit.from_state, audit.to_state) == ("failed", "staging")


async def test_a_version_under_evaluation_cannot_be_promoted_even_with_a_reason(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload(), until=State.EVALUATING)

    with pytest.raises(IllegalTransition):
        await repository.versions.promote(row.id, actor="ann", override_reason="hurry")

    assert await state_of(repository, row.id) == "evaluating"


async def test_automatic_promotion_goes_on_after_pass_alone(repository: Repository) -> None:
    good = await a_version(repository, an_upload("good", promote_mode="auto"), until=State.PASSED)
    bad = await a_version(repository, an_upload("bad", promote_mode="auto"), until=State.EVALUATING)
    await conclude(repository, bad, Verdict.FAIL)

    assert good.state == "staging"
    assert await state_of(repository, bad.id) == "failed"


async def test_automatic_promotion_never_replaces_a_newer_version(repository: Repository) -> None:
    slow = await a_version(
        repository, an_upload("slow", promote_mode="auto"), until=State.EVALUATING
    )
    token = await claim(repository, slow, State.EVALUATING)
    await a_version(repository, an_upload("fast", promote_mode="auto"), until=State.LIVE)

    assert await repository.work.conclude(slow.id, token, verdict=Verdict.PASS, report={})

    assert await state_of(repository, slow.id) == "passed"
    assert await alias_of(repository) == (2, None)


async def test_retiring_the_live_version_takes_the_alias_away(repository: Repository) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)

    await repository.versions.retire("acme/support@1", actor="ann")

    assert await alias_of(repository) is None


async def test_retiring_the_previous_version_ends_the_rollback(
    repository: Repository, clock: Clock
) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await a_version(repository, an_upload("two"), until=State.LIVE)
    clock.advance(3601)
    row = await repository.work.claim_due([State.SUPERSEDED], lease_seconds=5, owner="loop")
    assert row is not None
    assert row.lock_token is not None

    assert await repository.work.apply(row.id, row.lock_token, Move(event=Event.RETIRE))

    assert await alias_of(repository) == (2, None)


async def test_a_reevaluation_is_a_new_attempt_and_keeps_the_old_report(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload(), until=State.PASSED)

    again = await repository.versions.reevaluate(row.id, actor="ann", reason="new engine build")

    assert (again.state, again.attempt, again.verdict) == ("evaluating", 1, None)
    report = await repository.versions.report(row.id)
    assert report is not None
    assert (report.attempt, report.report) == (0, {"verdict": "PASS"})


async def test_a_deleted_tenant_takes_keys_and_versions_along_and_its_name_stays_used(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)

    await repository.tenants.delete("acme", actor="root")

    assert await state_of(repository, "acme/support@1") == "retired"
    assert await alias_of(repository) is None
    rows = await repository.fleet.snapshot_rows()
    assert (rows.tenants, rows.keys, rows.versions, rows.aliases) == ([], [], [], [])
    with pytest.raises(Exception, match="never used again"):
        await repository.tenants.create("acme", display_name="Other", actor="root")
