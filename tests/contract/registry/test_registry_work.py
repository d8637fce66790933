"""Leases, guards, concurrency: the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from serving.contract import EngineReport
from serving.controller.errors import IllegalTransition, NotFound
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from tests.builders.registry import Clock, a_version, an_upload, claim, conclude

VALIDATING = [State.VALIDATING]


async def test_one_of_many_workers_gets_the_lease(repository: Repository) -> None:
    await repository.versions.acknowledge(an_upload())

    found = await asyncio.gather(
        *(
            repository.work.claim_due(VALIDATING, lease_seconds=30, owner=f"worker-{n}")
            for n in range(8)
        )
    )

    assert len([row for row in found if row is not None]) == 1


async def test_workers_share_what_is_due_without_overlap(repository: Repository) -> None:
    for n in range(6):
        await repository.versions.acknowledge(an_upload(str(n)))

    found = await asyncio.gather(
        *(
            repository.work.claim_due(VALIDATING, lease_seconds=30, owner=f"worker-{n}")
            for n in range(6)
        )
    )

    assert len({row.id for row in found if row is not None}) == 6


async def test_an_expired_lease_is_taken_over_and_its_token_is_stale(
    repository: Repository, clock: Clock
) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    old = await claim(repository, row, State.VALIDATING)
    assert await repository.work.claim_due(VALIDATING, lease_seconds=9, owner="b") is None
    clock.advance(31)

    new = await claim(repository, row, State.VALIDATING)

    assert not await repository.work.apply(row.id, old, Move(event=Event.REJECT))
    assert not await repository.work.renew(row.id, old, lease_seconds=30)
    assert await repository.work.apply(row.id, new, Move(event=Event.ACCEPT))
    assert (await repository.versions.find(row.id)).state == "evaluating"


async def test_a_renewed_lease_holds(repository: Repository, clock: Clock) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    token = await claim(repository, row, State.VALIDATING)
    clock.advance(20)

    assert await repository.work.renew(row.id, token, lease_seconds=30)
    clock.advance(20)

    assert await repository.work.claim_due(VALIDATING, lease_seconds=9, owner="b") is None


async def test_a_result_for_a_version_that_was_retired_meanwhile_is_dropped(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload(), until=State.EVALUATING)
    token = await claim(repository, row, State.EVALUATING)
    await repository.versions.retire(row.id, actor="ann")

    done = await repository.work.conclude(row.id, token, verdict=Verdict.PASS, report={})

    assert not done
    assert (await repository.versions.find(row.id)).state == "retired"
    assert await repository.versions.report(row.id) is None


async def test_a_step_that_is_put_off_counts_a_try_and_waits(
    repository: Repository, clock: Clock
) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    token = await claim(repository, row, State.VALIDATING)

    error = {"code": "store_unavailable"}
    await repository.work.apply(row.id, token, retry_after_seconds=10, error=error)

    shown = await repository.versions.find(row.id)
    assert (shown.attempts, shown.error, shown.lock_token) == (1, error, None)
    assert await repository.work.next_due_at(VALIDATING) == clock.now + 10
    assert await repository.work.claim_due(VALIDATING, lease_seconds=9, owner="b") is None
    clock.advance(10)
    await claim(repository, row, State.VALIDATING)


async def test_a_move_forgets_tries_error_and_progress(repository: Repository) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    token = await claim(repository, row, State.VALIDATING)
    await repository.work.apply(
        row.id, token, keep_lease=True, progress={"done": 1}, error={"code": "x"}
    )

    await repository.work.apply(row.id, token, Move(event=Event.ACCEPT), findings=[{"code": "w"}])

    shown = await repository.versions.find(row.id)
    assert (shown.attempts, shown.error, shown.progress) == (0, None, None)
    assert shown.findings == [{"code": "w"}]


async def test_an_illegal_move_changes_nothing(repository: Repository) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    token = await claim(repository, row, State.VALIDATING)

    with pytest.raises(IllegalTransition):
        await repository.work.apply(row.id, token, Move(event=Event.SWITCH), rank=4)

    shown = await repository.versions.find(row.id)
    assert (shown.state, shown.rank, shown.lock_token) == ("validating", None, token)


async def test_a_step_cannot_set_the_state_past_the_table(repository: Repository) -> None:
    row = await a_version(repository, an_upload(), until=State.VALIDATING)
    token = await claim(repository, row, State.VALIDATING)

    with pytest.raises(TypeError, match="state"):
        await repository.work.apply(row.id, token, state="live")


async def test_nothing_is_due_when_nothing_is_there(repository: Repository) -> None:
    assert await repository.work.next_due_at(list(State)) is None
    assert await repository.work.claim_due(list(State), lease_seconds=1, owner="a") is None


async def test_a_released_version_is_never_due_again(repository: Repository) -> None:
    row = await a_version(repository, an_upload(), until=State.LIVE)
    await repository.versions.retire(row.id, actor="ann")
    token = await claim(repository, row, State.RETIRED)

    await repository.work.apply(row.id, token, released_at=1.0)

    assert await repository.work.claim_due([State.RETIRED], lease_seconds=9, owner="a") is None


async def test_the_revision_rises_exactly_when_engines_shall_see_something_new(
    repository: Repository,
) -> None:
    async def rises(work: object) -> bool:
        before = await repository.fleet.revision()
        await work  # type: ignore[misc]
        return await repository.fleet.revision() > before

    row, _ = await repository.versions.acknowledge(an_upload())
    token = await claim(repository, row, State.VALIDATING)
    apply = repository.work.apply
    assert not await rises(apply(row.id, token, Move(event=Event.ACCEPT), rank=8))
    token = await claim(repository, row, State.EVALUATING)
    assert await rises(apply(row.id, token, keep_lease=True, gate_phase="candidate"))
    assert not await rises(apply(row.id, token, keep_lease=True, gate_phase="candidate"))
    assert not await rises(apply(row.id, token, keep_lease=True, progress={"done": 1}))
    assert not await rises(repository.work.renew(row.id, token, lease_seconds=9))
    assert await rises(apply(row.id, token, keep_lease=True, gate_phase=None))
    assert not await rises(repository.work.conclude(row.id, token, verdict=Verdict.PASS, report={}))
    assert await rises(repository.versions.promote(row.id, actor="ann"))
    assert await rises(repository.versions.retire(row.id, actor="ann"))


async def test_moves_at_once_leave_one_alias_and_no_gap_in_the_audit(
    repository: Repository,
) -> None:
    for n in range(4):
        await a_version(repository, an_upload(str(n)), until=State.PASSED)

    await asyncio.gather(
        *(repository.versions.promote(f"acme/support@{n}", actor="ann") for n in range(1, 5))
    )

    staging = await repository.versions.all(states=frozenset({State.STAGING}))
    assert len(staging) == 1
    ids = [row.id for row in await repository.audit.after(0, limit=1000)]
    assert ids == list(range(1, len(ids) + 1))


async def test_uploads_at_once_get_numbers_without_gap_or_double(repository: Repository) -> None:
    rows = await asyncio.gather(
        *(repository.versions.acknowledge(an_upload(str(n % 4))) for n in range(12))
    )

    assert sorted({row.number for row, _ in rows}) == [1, 2, 3, 4]
    assert sum(is_new for _, is_new in rows) == 4


async def test_a_noise_floor_is_kept_per_build_base_and_number_type(
    repository: Repository,
) -> None:
    await repository.work.save_noise_floor("b1", "r1", "float32", {"mean": 1.0})
    await repository.work.save_noise_floor("b1", "r1", "float32", {"mean": 2.0})

    assert await repository.work.noise_floor("b1", "r1", "float32") == {"mean": 2.0}
    assert await repository.work.noise_floor("b2", "r1", "float32") is None


async def test_a_report_of_an_engines_earlier_life_is_dropped(
    repository: Repository, clock: Clock
) -> None:
    def report(started_at: float, revision: int) -> EngineReport:
        return EngineReport(
            engine_id="e", url="u", build="b", dtype="float32", revision=revision, is_ready=True,
            started_at=started_at, gpu_slots=1, cpu_slots=4, max_rank=8, max_model_len=64,
        )  # fmt: skip

    assert await repository.fleet.record_report(report(2.0, 5))
    assert not await repository.fleet.record_report(report(1.0, 9))
    assert await repository.fleet.record_report(report(3.0, 0))

    (engine,) = await repository.fleet.engines()
    assert engine.report.revision == 0
    clock.advance(20)
    assert not engine.is_reachable(clock.now, 15)


async def test_what_is_absent_is_not_found(repository: Repository) -> None:
    for work in (
        repository.versions.find("acme/x@1"),
        repository.versions.promote("acme/x@1", actor="a"),
        repository.versions.acknowledge(an_upload(tenant="nobody")),
        repository.tenants.find("nobody"),
        repository.tenants.change("nobody", actor="a", display_name="x"),
        repository.tenants.find_suite("acme", "none"),
        repository.tenants.suite("acme/none@1"),
        repository.fleet.adapter("acme", "none"),
        repository.fleet.forget_engine("none", actor="a"),
    ):
        with pytest.raises(NotFound):
            await work


async def test_a_verdict_of_an_overridden_version_stays_what_it_was(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload(), until=State.EVALUATING)
    await conclude(repository, row, Verdict.INCONCLUSIVE)
    await repository.versions.promote(row.id, actor="ann", override_reason="checked by hand")
    await a_version(repository, an_upload("two"), until=State.STAGING)

    shown = await repository.versions.find(row.id)
    assert (shown.state, shown.verdict) == ("inconclusive", "INCONCLUSIVE")
