"""The same promises on SQLite and PostgreSQL: a kind of engine is cleared once, and for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.rechecks import RecheckResult
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof, StaleReason
from tests.builders.registry import a_version, an_upload, claim, switch

OLD = Proof("vllm 1", "base-a", "float32")
NEW = replace(OLD, engine_build="vllm 2")


async def live(repository: Repository, adapter: str, verdict: Verdict = Verdict.PASS) -> VersionRow:
    """A live version that the gate judged so on OLD."""
    upload = an_upload(adapter, adapter=adapter)
    row = await a_version(repository, upload, until=State.EVALUATING)
    token = await claim(repository, row, State.EVALUATING)
    given: dict[str, Any] = {"verdict": verdict, "report": {}, "proof": OLD, "probe": {"n": "old"}}
    assert await repository.work.conclude(row.id, token, **given)
    reason = None if verdict is Verdict.PASS else "we know better"
    await repository.versions.promote(row.id, actor="ann", override_reason=reason)
    await switch(repository, row)
    return await repository.versions.find(row.id)


async def measure(
    repository: Repository, row: VersionRow, verdict: Verdict, *, on: Proof = NEW
) -> VersionRow:
    claimed = await repository.rechecks.claim(row.id, lease_seconds=30, owner="test")
    assert claimed is not None
    result = RecheckResult(
        reason=StaleReason(OLD, on),
        verdict=verdict,
        reasons=[{"code": "x", "text": f"{verdict.value} because"}],
        report={},
        probe={"n": "new"} if verdict is Verdict.PASS else None,
        rollback_seconds=None,
    )
    assert await repository.rechecks.conclude(row.id, str(claimed.lock_token), result)
    return await repository.versions.find(row.id)


async def blocking(repository: Repository, kind: Proof = NEW) -> list[tuple[str, str | None]]:
    standings = await repository.clearances.standings(kind)
    return [(one.version, one.why) for one in standings if one.is_blocking]


async def test_every_live_version_stands_in_the_way_until_it_has_passed(
    repository: Repository,
) -> None:
    one, two = await live(repository, "one"), await live(repository, "two")
    await a_version(repository, an_upload("never", adapter="three"), until=State.LIVE)
    assert await blocking(repository, OLD) == []
    assert await blocking(repository) == [(one.id, None), (two.id, None)]

    await measure(repository, one, Verdict.PASS)
    await measure(repository, two, Verdict.INCONCLUSIVE)

    assert await blocking(repository) == [(two.id, "INCONCLUSIVE because")]
    await measure(repository, two, Verdict.PASS)
    assert await blocking(repository) == []


async def test_what_a_person_overruled_needs_no_better_verdict_than_it_had(
    repository: Repository,
) -> None:
    failed = await live(repository, "failed", Verdict.FAIL)
    unsure = await live(repository, "unsure", Verdict.INCONCLUSIVE)

    await measure(repository, failed, Verdict.FAIL)
    await measure(repository, unsure, Verdict.INCONCLUSIVE)
    assert await blocking(repository) == []
    await measure(repository, unsure, Verdict.FAIL)

    assert await blocking(repository) == [(unsure.id, "FAIL because")]


async def test_the_mode_is_switched_with_everybody_who_serves_in_one_revision(
    repository: Repository,
) -> None:
    before = await repository.fleet.revision()
    assert (await repository.fleet.snapshot_rows()).cleared is None

    assert await repository.clearances.switch("gate", {OLD: "it serves"})
    assert not await repository.clearances.switch("gate", {NEW: "too late"})

    rows = await repository.fleet.snapshot_rows()
    assert rows.revision == before + 1
    assert [row.engine_build for row in rows.cleared or ()] == ["vllm 1"]
    state = await repository.clearances.state()
    assert (state.is_gated, state.cleared) == (True, {OLD})
    assert await repository.clearances.switch("probe", {})
    assert (await repository.fleet.snapshot_rows()).cleared is None
    assert (await repository.fleet.snapshot_rows()).revision == before + 2


async def test_a_clearance_is_written_and_audited_once_and_outlives_the_mode(
    repository: Repository,
) -> None:
    await repository.clearances.switch("gate", {})
    before = await repository.fleet.revision()

    assert await repository.clearances.clear(NEW, actor="ann", reason="known difference")
    assert not await repository.clearances.clear(NEW, actor="bob", reason="again")

    assert await repository.fleet.revision() == before + 1
    (row,) = await repository.audit.latest(subject="vllm 2")
    assert (row.action, row.actor, row.reason) == ("clear_engine_kind", "ann", "known difference")
    await repository.clearances.switch("probe", {})
    await repository.clearances.switch("gate", {})
    assert (await repository.clearances.state()).cleared == {NEW}


async def test_a_probe_of_a_new_kind_takes_none_away_from_the_old_one(
    repository: Repository,
) -> None:
    row = await live(repository, "one")

    passed = await measure(repository, row, Verdict.PASS)

    assert passed.probe == {"n": "new"}
    assert [(item["kind"]["build"], item["probe"]) for item in passed.probes or ()] == [
        ("vllm 2", {"n": "new"}),
        ("vllm 1", {"n": "old"}),
    ]
    for number in range(3, 7):
        kind = replace(OLD, engine_build=f"vllm {number}")
        passed = await measure(repository, row, Verdict.PASS, on=kind)
    assert [item["kind"]["build"] for item in passed.probes or ()] == ["vllm 6", "vllm 5", "vllm 4"]


async def test_what_is_about_to_go_live_can_be_measured_and_its_latest_verdicts_are_known(
    repository: Repository,
) -> None:
    row = await a_version(repository, an_upload("one"), until=State.EVALUATING)
    token = await claim(repository, row, State.EVALUATING)
    given: dict[str, Any] = {"verdict": Verdict.PASS, "report": {}, "proof": OLD}
    assert await repository.work.conclude(row.id, token, **given)
    await repository.versions.promote(row.id, actor="ann")
    staging = frozenset({State.STAGING})
    assert await repository.rechecks.due(NEW, states=staging) == [row.id]
    assert await repository.rechecks.due(NEW) == []

    await measure(repository, row, Verdict.FAIL)
    await measure(repository, row, Verdict.INCONCLUSIVE)

    assert (await repository.versions.find(row.id)).state == State.STAGING
    assert await repository.rechecks.verdicts(row.id) == {
        OLD: Verdict.PASS, NEW: Verdict.INCONCLUSIVE,
    }  # fmt: skip
