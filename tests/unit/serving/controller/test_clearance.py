"""When a kind of engine is cleared, and that it stays so, whatever happens in between."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serving.contract import EngineKind, FleetSnapshot
from serving.controller.clearance import (
    Standing,
    asking_kinds,
    blockers,
    is_waiting,
    why_clear,
    why_not_measurable,
)
from serving.controller.lifecycle import Verdict
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.staleness import Proof
from serving.engine.clearance import Clearance
from tests.builders.controller import a_report
from tests.builders.snapshots import snapshot

VERDICTS = st.sampled_from(Verdict)
STANDINGS = st.builds(
    Standing, st.sampled_from(["a/a@1", "b/b@1", "c/c@1"]), st.none() | VERDICTS,
    st.none() | VERDICTS,
)  # fmt: skip


def seen(engine_id: str, at: float = 100.0, **changes: Any) -> ObservedEngine:
    return ObservedEngine(a_report(engine_id, **changes), at)


def test_a_pass_is_needed_where_a_pass_was_had() -> None:
    for found, is_blocking in (
        (None, True), (Verdict.FAIL, True), (Verdict.INCONCLUSIVE, True), (Verdict.PASS, False),
    ):  # fmt: skip
        assert Standing("a/a@1", Verdict.PASS, found).is_blocking is is_blocking


@given(STANDINGS)
def test_nothing_blocks_that_fares_as_well_as_it_went_live_and_everything_that_is_unmeasured(
    standing: Standing,
) -> None:
    if standing.found is None:
        assert standing.is_blocking
    elif standing.found in (standing.needed, Verdict.PASS):
        assert not standing.is_blocking


@given(st.lists(STANDINGS))
def test_a_kind_is_cleared_when_nobody_blocks_it_or_it_serves(standings: list[Standing]) -> None:
    assert (why_clear(False, standings) is None) == bool(blockers(standings))
    assert why_clear(True, standings) is not None


def test_those_who_need_a_person_are_named_before_those_who_wait() -> None:
    found = blockers([
        Standing("a/a@1", Verdict.PASS, None),
        Standing("b/b@1", Verdict.PASS, Verdict.FAIL),
        Standing("c/c@1", Verdict.PASS, Verdict.PASS),
    ])  # fmt: skip

    assert [item.version for item in found] == ["b/b@1", "a/a@1"]


def test_only_reachable_engines_ask_and_one_that_serves_speaks_for_its_kind() -> None:
    engines = [
        seen("e1", build="old"),
        seen("e2", build="new", is_ready=False, waits_for_gate=True, base_revision="base b"),
        seen("e3", build="new", base_revision="base b"),
        seen("e4", build="loads", is_ready=False),
        seen("e5", build="leaves", stopping=True, waits_for_gate=True, is_ready=False),
        seen("e6", at=0.0, build="silent"),
    ]

    asking = asking_kinds(engines, own_base="base a", now=110.0, timeout_seconds=15.0)

    assert asking == {
        Proof("new", "base b", "float32"): True,
        Proof("old", "base a", "float32"): True,
    }
    assert [is_waiting(engine.report) for engine in engines] == [
        False, True, False, False, False, False,
    ]  # fmt: skip


def test_another_base_is_not_measured_against_this_one() -> None:
    kind = Proof("new", "base b", "float32")

    assert why_not_measurable(kind, own_base="base b") is None
    assert "base b" in str(why_not_measurable(kind, own_base="base a"))


class Upgrades(RuleBasedStateMachine):
    """Registry and engines as they act on each other; checked against who was ever allowed."""

    KINDS = tuple(Proof(build, "base", "float32") for build in ("one", "two", "three"))

    def __init__(self) -> None:
        super().__init__()
        self.is_gated = False
        self.cleared: set[Proof] = set()
        self.needed = {"a/a@1": Verdict.PASS}
        self.found: dict[tuple[str, Proof], Verdict] = {("a/a@1", self.KINDS[0]): Verdict.PASS}
        self.engines: dict[str, tuple[Proof, Clearance, FleetSnapshot | None]] = {}
        self.allowed: set[Proof] = set()
        self.serving: set[str] = set()

    @rule(name=st.sampled_from(["e1", "e2"]), kind=st.sampled_from(KINDS))
    def start(self, name: str, kind: Proof) -> None:
        self.serving.discard(name)
        own = EngineKind(kind.engine_build, kind.base_revision, kind.dtype)
        self.engines[name] = (kind, Clearance(own), None)

    @rule(name=st.sampled_from(["e1", "e2"]))
    def pull(self, name: str) -> None:
        if name not in self.engines:
            return
        kind, clearance, _ = self.engines[name]
        cleared = [EngineKind(k.engine_build, k.base_revision, k.dtype) for k in self.cleared]
        told = snapshot()
        if self.is_gated:
            told = FleetSnapshot(1, "base", "file:///nowhere", cleared=cleared)
        if not self.is_gated or kind in self.cleared:
            self.allowed.add(kind)
        self.engines[name] = (kind, clearance, told)
        if not clearance.is_waiting(told):
            clearance.note_served()
            self.serving.add(name)

    @rule(
        version=st.sampled_from(["a/a@1", "b/b@1"]),
        kind=st.sampled_from(KINDS),
        is_good=st.booleans(),
    )
    def measure(self, version: str, kind: Proof, is_good: bool) -> None:
        self.found[version, kind] = Verdict.PASS if is_good else Verdict.FAIL

    @rule()
    def push(self) -> None:
        self.needed["b/b@1"] = Verdict.PASS

    @rule()
    def keep_clearances(self) -> None:
        if not self.is_gated:
            return
        asking = {
            kind: any(self.engines[n][0] == kind for n in self.serving)
            for kind, _, _ in self.engines.values()
        }
        for kind, is_serving in asking.items():
            standings = [
                Standing(name, needed, self.found.get((name, kind)))
                for name, needed in self.needed.items()
            ]
            if why_clear(is_serving, standings) is not None:
                self.cleared.add(kind)

    @rule()
    def switch_on(self) -> None:
        if not self.is_gated:
            self.is_gated = True
            self.cleared |= {self.engines[name][0] for name in self.serving}

    @rule()
    def restore_an_old_backup(self) -> None:
        self.cleared.clear()

    @invariant()
    def who_serves_was_allowed_to(self) -> None:
        assert {self.engines[name][0] for name in self.serving} <= self.allowed

    @invariant()
    def nobody_who_serves_is_shut_out(self) -> None:
        for name in self.serving:
            _, clearance, told = self.engines[name]
            assert not clearance.is_waiting(told)


TestUpgrades = Upgrades.TestCase
