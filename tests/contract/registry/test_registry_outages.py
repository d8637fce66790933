"""The same promises on SQLite and PostgreSQL: what an engine took out of service is told once."""

from __future__ import annotations

from typing import Any

from serving.contract import VersionReport, VersionState
from serving.controller.lifecycle import State
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import AuditRow
from tests.builders.controller import a_report
from tests.builders.registry import a_version, an_upload

NAME = "acme/support@1"
OUT = ("engine_failed", "engine_quarantined")


def said(state: VersionState, *, attempt: int = 1, name: str = NAME) -> VersionReport:
    is_bad = state in {VersionState.FAILED, VersionState.QUARANTINED}
    reason = "probe_tokens" if is_bad else None
    return VersionReport(
        name=name, digest="d", state=state, reason=reason, detail="case 0", attempt=attempt
    )


async def tell(repository: Repository, *items: VersionReport, **about: Any) -> None:
    assert await repository.fleet.record_report(a_report(versions=list(items), **about))


async def told(repository: Repository) -> list[AuditRow]:
    rows = await repository.audit.latest(subject=NAME)
    return [row for row in rows if row.action in OUT]


async def test_an_outage_is_told_with_engine_and_reason_and_not_with_each_report(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)
    for _ in range(3):
        await tell(repository, said(VersionState.QUARANTINED))

    (row,) = await told(repository)

    assert (row.action, row.actor) == ("engine_quarantined", "engine:engine-0")
    assert (row.tenant_id, row.reason) == ("acme", "probe_tokens")
    assert row.evidence == {
        "engine": "engine-0", "build": "vllm test", "attempt": 1,
        "reason": "probe_tokens", "detail": "case 0",
    }  # fmt: skip
    assert (await repository.versions.find(NAME)).state == "live"


async def test_tries_in_between_and_a_restart_tell_nothing_new(repository: Repository) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)
    for started_at in (1.0, 2.0):
        for state in (VersionState.FAILED, VersionState.LOADING, VersionState.FAILED):
            await tell(repository, said(state), started_at=started_at)

    assert len(await told(repository)) == 1


async def test_another_attempt_engine_or_state_is_told_again(repository: Repository) -> None:
    await a_version(repository, an_upload(), until=State.LIVE)
    await tell(repository, said(VersionState.FAILED))
    await tell(repository, said(VersionState.FAILED, attempt=2))
    await tell(repository, said(VersionState.QUARANTINED, attempt=2))
    await tell(repository, said(VersionState.FAILED), engine_id="engine-1")

    rows = await told(repository)

    seen = [(row.actor[7:], row.action[7:], (row.evidence or {})["attempt"]) for row in rows[::-1]]
    assert seen == [
        ("engine-0", "failed", 1),
        ("engine-0", "failed", 2),
        ("engine-0", "quarantined", 2),
        ("engine-1", "failed", 1),
    ]


async def test_a_version_that_the_registry_does_not_know_is_not_told(
    repository: Repository,
) -> None:
    before = (await repository.audit.latest(limit=1))[0].id

    await tell(repository, said(VersionState.FAILED, name="acme/nobody@1"))
    await tell(repository, said(VersionState.PROVEN))

    assert (await repository.audit.latest(limit=1))[0].id == before
