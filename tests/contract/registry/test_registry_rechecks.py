"""The same promises on SQLite and PostgreSQL: re-checks judge a version in service and move nothing
but what a policy says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.controller.errors import OverrideNeeded
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.rechecks import RecheckResult
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import AuditRow, VersionRow
from serving.controller.staleness import Proof, find_stale
from tests.builders.registry import Clock, a_version, an_upload, claim, switch

OLD = Proof("vllm 1", "base-a", "float32")
NEW = replace(OLD, engine_build="vllm 2")


async def proven(
    repository: Repository, content: str = "one", *, until: State = State.LIVE
) -> VersionRow:
    """A version that passed on OLD."""
    row = await a_version(repository, an_upload(content), until=State.EVALUATING)
    token = await claim(repository, row, State.EVALUATING)
    passed: dict[str, Any] = {"verdict": Verdict.PASS, "report": {"n": content}, "proof": OLD}
    assert await repository.work.conclude(row.id, token, probe={"cases": []}, **passed)
    if until is not State.PASSED:
        await repository.versions.promote(row.id, actor="ann")
        await switch(repository, row)
    return await repository.versions.find(row.id)


def result(verdict: Verdict, **changes: Any) -> RecheckResult:
    stale = find_stale([OLD], [NEW])
    assert stale is not None
    given: dict[str, Any] = {
        "reason": stale,
        "verdict": verdict,
        "reasons": [{"code": "x", "text": "y"}],
        "report": {"verdict": verdict.value},
        "probe": None,
        "rollback_seconds": None,
    }
    return RecheckResult(**{**given, **changes})


async def recheck(repository: Repository, row: VersionRow, outcome: RecheckResult) -> VersionRow:
    claimed = await repository.rechecks.claim(row.id, lease_seconds=30, owner="test")
    assert claimed is not None
    assert await repository.rechecks.conclude(row.id, str(claimed.lock_token), outcome)
    return await repository.versions.find(row.id)


async def latest_audit(repository: Repository, row: VersionRow) -> AuditRow:
    return (await repository.audit.latest(subject=row.id, limit=1))[0]


async def test_a_version_in_service_is_due_until_it_was_measured_on_what_runs(
    repository: Repository,
) -> None:
    row = await proven(repository)
    assert await repository.rechecks.due(OLD) == []
    assert await repository.rechecks.due(NEW) == [row.id]

    await recheck(repository, row, result(Verdict.INCONCLUSIVE))

    assert await repository.rechecks.due(NEW) == []
    assert await repository.rechecks.proofs(row.id) == [NEW, OLD]


async def test_live_versions_come_before_superseded_ones_and_others_never(
    repository: Repository,
) -> None:
    one, two = await proven(repository, "one"), await proven(repository, "two")
    await proven(repository, "three", until=State.PASSED)
    await a_version(repository, an_upload("never measured", adapter="other"), until=State.LIVE)

    assert await repository.rechecks.due(NEW) == [two.id, one.id]


async def test_a_pass_renews_the_probe_and_a_fail_leaves_everything_but_says_so(
    repository: Repository,
) -> None:
    row = await proven(repository)
    before = await repository.fleet.revision()

    failed = await recheck(repository, row, result(Verdict.FAIL))

    assert (failed.state, failed.verdict, failed.probe) == ("live", "PASS", {"cases": []})
    assert failed.recheck is not None
    assert (failed.recheck["number"], failed.recheck["verdict"]) == (1, "FAIL")
    assert await repository.fleet.revision() == before
    audit = await latest_audit(repository, row)
    assert (audit.action, audit.from_state, audit.to_state) == ("recheck_failed", None, None)
    assert audit.evidence is not None
    assert audit.evidence["reason"]["changed"] == ["engine_build"]
    assert audit.evidence["report"] == {"attempt": row.attempt, "recheck": 1}

    passed = await recheck(repository, row, result(Verdict.PASS, probe={"cases": [1]}))

    assert passed.probe == {"cases": [1]}
    assert await repository.fleet.revision() == before + 1


async def test_reports_of_re_checks_stand_beside_the_one_that_decided(
    repository: Repository,
) -> None:
    row = await proven(repository)
    await recheck(repository, row, result(Verdict.FAIL))

    first = await repository.versions.report(row.id, recheck=0)
    latest = await repository.versions.report(row.id)

    assert first is not None
    assert latest is not None
    assert (first.report, first.verdict, first.recheck) == ({"n": "one"}, "PASS", 0)
    assert (latest.report, latest.verdict, latest.recheck) == ({"verdict": "FAIL"}, "FAIL", 1)


async def test_a_fail_rolls_back_where_the_policy_wants_it(repository: Repository) -> None:
    one, two = await proven(repository, "one"), await proven(repository, "two")

    await recheck(repository, two, result(Verdict.FAIL, rollback_seconds=60))

    (alias,) = await repository.fleet.aliases(tenant_id="acme")
    assert (alias.number, alias.previous_number) == (one.number, two.number)
    assert (await repository.versions.find(two.id)).state == "superseded"
    back = await latest_audit(repository, one)
    assert (back.action, back.reason) == ("restore", f"{two.id} failed its re-check")


async def test_a_fail_does_not_roll_back_to_nothing_or_to_another_failure(
    repository: Repository,
) -> None:
    one = await proven(repository, "one")
    await recheck(repository, one, result(Verdict.FAIL, rollback_seconds=60))
    assert (await repository.versions.find(one.id)).state == "live"
    hold = await latest_audit(repository, one)
    assert hold.reason == "it failed its re-check and stays live: there is no previous version"

    two = await proven(repository, "two")
    await recheck(repository, two, result(Verdict.FAIL, rollback_seconds=60))

    assert (await repository.versions.find(two.id)).state == "live"
    assert (await latest_audit(repository, two)).action == "hold"


async def test_a_re_check_that_is_put_off_waits_longer_each_time_and_keeps_other_clocks(
    repository: Repository, clock: Clock
) -> None:
    one = await proven(repository, "one")
    await proven(repository, "two")
    window = (await repository.versions.find(one.id)).next_attempt_at
    pauses = []
    for _ in range(3):
        row = await repository.rechecks.claim(one.id, lease_seconds=30, owner="test")
        assert row is not None
        await repository.rechecks.put_off(one.id, str(row.lock_token), {"code": "no_engine"})
        shown = await repository.versions.find(one.id)
        assert shown.recheck_at is not None
        pauses.append(shown.recheck_at - clock.now)
        assert one.id not in await repository.rechecks.due(NEW)
        clock.advance(pauses[-1])

    assert pauses == [10, 20, 40]
    assert one.id in await repository.rechecks.due(NEW)
    shown = await repository.versions.find(one.id)
    assert (shown.next_attempt_at, shown.attempts, shown.error) == (window, 0, None)
    assert shown.recheck == {"n_tries": 3, "error": {"code": "no_engine"}}


async def test_a_move_by_somebody_ends_a_re_check_under_way(repository: Repository) -> None:
    row = await proven(repository)
    claimed = await repository.rechecks.claim(row.id, lease_seconds=30, owner="test")
    assert claimed is not None
    assert await repository.rechecks.claim(row.id, lease_seconds=30, owner="other") is None
    await repository.versions.retire(row.id, actor="ann")

    token = str(claimed.lock_token)
    assert not await repository.rechecks.conclude(row.id, token, result(Verdict.FAIL))
    assert await repository.rechecks.claim(row.id, lease_seconds=30, owner="test") is None
    assert (await latest_audit(repository, row)).action == "retire"


async def test_what_passed_on_another_build_is_proven_again_before_it_is_staged(
    repository: Repository,
) -> None:
    row = await proven(repository, until=State.PASSED)
    stale = find_stale([OLD], [NEW])
    assert stale is not None

    again = await repository.versions.promote(row.id, actor="ann", stale=stale.to_json())

    assert (again.state, again.verdict, again.attempt) == ("evaluating", None, row.attempt + 1)
    audit = await latest_audit(repository, row)
    assert (audit.action, audit.actor) == ("reevaluate", "ann")
    assert audit.reason == "promoted on a proof that is out of date: engine_build changed"
    token = await claim(repository, row, State.EVALUATING)
    passed: dict[str, Any] = {"verdict": Verdict.PASS, "report": {}, "proof": NEW}
    assert await repository.work.conclude(row.id, token, **passed)
    assert (await repository.versions.find(row.id)).state == "staging"


async def test_what_failed_its_re_check_comes_back_only_with_a_reason(
    repository: Repository,
) -> None:
    one = await proven(repository, "one")
    two = await proven(repository, "two")
    await repository.versions.retire(two.id, actor="ann")
    await recheck(repository, one, result(Verdict.FAIL))

    for reason in (None, "  "):
        with pytest.raises(OverrideNeeded) as caught:
            await repository.versions.promote(one.id, actor="ann", override_reason=reason)
        assert caught.value.fields["verdict"] == "FAIL"
    back = await repository.versions.promote(one.id, actor="ann", override_reason="known, fine")

    assert back.state == "staging"
    audit = await latest_audit(repository, one)
    assert audit.evidence == {"verdict": "FAIL", "report": {"attempt": 1, "recheck": 1}}
    assert (audit.action, audit.reason) == ("override", "known, fine")
