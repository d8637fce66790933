"""One adapter's versions led through random lives on a real registry: what may never happen."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.controller.errors import Conflict
from serving.controller.lifecycle import Event, State, Verdict, allowed_events, next_state
from serving.controller.registry.fleet import Fleet
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.controller.snapshot import Entries, compile_snapshot
from serving.snapshot_delta import HeldSnapshot
from tests.builders.registry import Clock, a_version, an_upload

T = TypeVar("T")
PICK = st.integers(0, 99)


class AdapterLife(RuleBasedStateMachine):
    """Uploads, verdicts, promotions, rollbacks, retirements, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        url = f"sqlite+aiosqlite:///{Path(self.folder.name) / 'r.sqlite'}"
        self.repository = Repository(url, clock=self.clock)
        self.run(self.repository.prepare())
        self.run(self.repository.tenants.create("acme", display_name="Acme", actor="root"))
        self.n_uploads = 0
        self.may_serve: set[str] = set()
        self.seen: dict[int, bytes] = {}
        self.looks, self.entries = Fleet(self.repository.sessions), Entries()
        self.held: HeldSnapshot | None = None

    def teardown(self) -> None:
        self.run(self.repository.close())
        self.runner.close()
        self.folder.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def versions(self) -> list[VersionRow]:
        return self.run(self.repository.versions.all())

    @rule(mode=st.sampled_from(["auto", "manual"]), is_repeated=st.booleans())
    def upload(self, mode: str, is_repeated: bool) -> None:
        self.n_uploads += 0 if is_repeated and self.n_uploads else 1
        upload = an_upload(str(self.n_uploads), promote_mode=mode)
        self.run(self.repository.versions.acknowledge(upload))

    @rule(until=st.sampled_from([State.EVALUATING, State.PASSED, State.STAGING, State.LIVE]))
    def upload_a_good_one(self, until: State) -> None:
        self.n_uploads += 1
        row = self.run(a_version(self.repository, an_upload(str(self.n_uploads)), until=until))
        if until is not State.EVALUATING:
            self.may_serve.add(row.id)

    def claim(self, *states: State) -> tuple[VersionRow, str] | None:
        work = self.repository.work.claim_due(states, lease_seconds=9, owner="x")
        row = self.run(work)
        return None if row is None else (row, str(row.lock_token))

    @rule(verdict=st.sampled_from(Verdict))
    def step(self, verdict: Verdict) -> None:
        claimed = self.claim(State.VALIDATING, State.EVALUATING, State.STAGING)
        if claimed is None:
            return
        row, token = claimed
        work = self.repository.work
        if row.state == State.VALIDATING:
            event = Event.REJECT if verdict is Verdict.FAIL else Event.ACCEPT
            assert self.run(work.apply(row.id, token, Move(event=event), rank=8))
        elif row.state == State.EVALUATING:
            if verdict is Verdict.PASS:
                self.may_serve.add(row.id)
            assert self.run(work.conclude(row.id, token, verdict=verdict, report={}))
        else:
            assert self.run(work.switch(row.id, token, rollback_seconds=50))

    @rule()
    def show_a_candidate_to_the_engines(self) -> None:
        if claimed := self.claim(State.EVALUATING):
            row, token = claimed
            assert self.run(self.repository.work.apply(row.id, token, gate_phase="candidate"))

    @rule()
    def end_a_rollback_window(self) -> None:
        if claimed := self.claim(State.SUPERSEDED):
            row, token = claimed
            assert self.run(self.repository.work.apply(row.id, token, Move(event=Event.RETIRE)))

    @rule()
    def put_off(self) -> None:
        if claimed := self.claim(State.VALIDATING, State.EVALUATING, State.STAGING):
            row, token = claimed
            assert self.run(self.repository.work.apply(row.id, token, retry_after_seconds=5))

    @precondition(lambda self: self.n_uploads > 0)
    @rule(pick=PICK, has_reason=st.booleans())
    def promote(self, pick: int, has_reason: bool) -> None:
        rows = self.versions()
        row = rows[pick % len(rows)]
        reason = "checked by hand" if has_reason else None
        try:
            self.run(self.repository.versions.promote(row.id, actor="ann", override_reason=reason))
        except Conflict:
            return
        assert has_reason or row.verdict == Verdict.PASS
        self.may_serve.add(row.id)

    @precondition(lambda self: self.n_uploads > 0)
    @rule(pick=PICK, is_retire=st.booleans())
    def retire_or_reevaluate(self, pick: int, is_retire: bool) -> None:
        rows = self.versions()
        row = rows[pick % len(rows)]
        versions = self.repository.versions
        event = Event.RETIRE if is_retire else Event.REEVALUATE
        is_allowed = event in allowed_events(State(row.state))
        move = versions.retire if is_retire else versions.reevaluate
        try:
            self.run(move(row.id, actor="ann"))
        except Conflict:
            assert not is_allowed
        else:
            assert is_allowed
            if not is_retire:
                self.may_serve.discard(row.id)

    @precondition(lambda self: self.n_uploads > 0)
    @rule()
    def roll_back(self) -> None:
        before = self.run(self.repository.fleet.aliases())
        try:
            row = self.run(
                self.repository.versions.roll_back(
                    "acme", "support", actor="ann", rollback_seconds=50
                )
            )
        except Conflict:
            return
        assert before
        assert row.number == before[0].previous_number

    @rule(seconds=st.sampled_from([1.0, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_alias_is_the_one_live_version(self) -> None:
        live = [row.number for row in self.versions() if row.state == State.LIVE]
        aliases = self.run(self.repository.fleet.aliases())

        assert live == [alias.number for alias in aliases]
        assert len(live) <= 1

    @invariant()
    def at_most_one_version_is_on_its_way(self) -> None:
        assert sum(row.state == State.STAGING for row in self.versions()) <= 1

    @invariant()
    def nothing_serves_that_neither_passed_nor_was_overridden_by_name(self) -> None:
        for row in self.versions():
            if row.state in {State.STAGING, State.LIVE, State.SUPERSEDED}:
                assert row.id in self.may_serve
                assert row.verdict == Verdict.PASS or (row.override_reason and row.override_by)

    @invariant()
    def a_revision_names_one_content(self) -> None:
        rows = self.run(self.repository.fleet.snapshot_rows())
        snapshot = compile_snapshot(rows, fleet="b", store_url="file:///", gate_key_hash="f")
        content = msgspec.json.encode(snapshot)

        assert self.seen.setdefault(rows.revision, content) == content
        assert max(self.seen) == rows.revision

    @invariant()
    def what_is_read_of_a_change_alone_is_what_a_newcomer_reads(self) -> None:
        rows = self.run(self.looks.snapshot_rows())
        kept = compile_snapshot(
            rows, fleet="b", store_url="file:///", gate_key_hash="f", entries=self.entries
        )
        held = HeldSnapshot.of(kept, self.held)
        newcomer = Fleet(self.repository.sessions)
        whole = compile_snapshot(
            self.run(newcomer.snapshot_rows()), fleet="b", store_url="file:///", gate_key_hash="f"
        )

        assert kept == whole
        assert held.snapshot == whole
        assert held.tag == HeldSnapshot.of(whole).tag
        self.held = held

    @invariant()
    def the_audit_explains_every_state(self) -> None:
        audit = self.run(self.repository.audit.after(0, limit=100_000))
        state: dict[str, State] = {}
        assert [row.id for row in audit] == list(range(1, len(audit) + 1))
        for row in audit:
            if row.to_state is None:
                continue
            assert State(str(row.from_state)) is state.get(row.subject, State.UPLOADING)
            state[row.subject] = State(row.to_state)
            if row.action != Event.WITHDRAW:
                assert next_state(State(str(row.from_state)), Event(row.action)) == row.to_state
        assert {row.id: row.state for row in self.versions()} == state


AdapterLife.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAdapterLife = AdapterLife.TestCase
