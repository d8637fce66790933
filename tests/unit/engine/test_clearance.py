"""Whom an engine of a new kind may answer, and which probes it asks."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from serving.contract import EngineKind, FleetSnapshot, KindProbe, Probe, VersionEntry
from serving.engine.clearance import Clearance, choose_probes, is_cleared
from tests.builders.snapshots import snapshot, version

OURS = EngineKind("build 2", "base a", "float32")
OTHER_BUILD = EngineKind("build 1", "base a", "float32")
OTHER_BASE = EngineKind("build 1", "base b", "float32")
OTHER_DTYPE = EngineKind("build 2", "base a", "bfloat16")
KINDS = st.sampled_from([OURS, OTHER_BUILD, OTHER_BASE, OTHER_DTYPE])
CLEARED = st.none() | st.lists(KINDS, unique=True)


def a_probe(number: int) -> Probe:
    return Probe(cases=[], max_mean_delta_nats=float(number), tie_margin_nats=0.0)


PROBES = {kind: a_probe(n) for n, kind in enumerate([OURS, OTHER_BUILD, OTHER_BASE, OTHER_DTYPE])}


def entry(*kinds: EngineKind) -> VersionEntry:
    probes = [KindProbe(kind, PROBES[kind]) for kind in kinds]
    latest = probes[0].probe if probes else a_probe(9)
    return msgspec.structs.replace(version("acme/a@1", probe=latest), probes=probes)


def gated(cleared: list[EngineKind] | None, *entries: VersionEntry) -> FleetSnapshot:
    return msgspec.structs.replace(snapshot(*entries), cleared=cleared)


def asked(cleared: list[EngineKind] | None, *kinds: EngineKind) -> Probe | None:
    (chosen,) = choose_probes(gated(cleared, entry(*kinds)), OURS).versions
    assert chosen.probes == []
    return chosen.probe


def test_a_probe_of_the_own_kind_comes_before_newer_ones_of_others() -> None:
    assert asked([OURS], OTHER_BASE, OTHER_BUILD, OURS) == PROBES[OURS]


def test_another_builds_probe_is_good_where_base_and_number_type_are_the_same() -> None:
    assert asked([], OTHER_DTYPE, OTHER_BASE, OTHER_BUILD) == PROBES[OTHER_BUILD]


def test_on_another_base_only_an_engine_without_tenants_does_without_a_recorded_answer() -> None:
    assert asked([], OTHER_BASE, OTHER_DTYPE) is None
    assert asked([OURS], OTHER_BASE, OTHER_DTYPE) == PROBES[OTHER_BASE]
    assert asked(None, OTHER_BASE) == PROBES[OTHER_BASE]


def test_a_probe_of_nobody_knows_what_is_asked_as_it_was_before() -> None:
    assert asked([]) == a_probe(9)


def test_without_a_snapshot_nothing_is_known_to_wait_for() -> None:
    assert not Clearance(OURS).is_waiting(None)


@given(st.lists(st.tuples(CLEARED, st.booleans()), max_size=12))
def test_no_tenant_before_a_clearance_and_no_way_back_after_service(
    seen: list[tuple[list[EngineKind] | None, bool]],
) -> None:
    clearance, was_allowed, has_served = Clearance(OURS), False, False

    for cleared, is_settled in seen:
        now = gated(cleared)
        was_allowed = was_allowed or is_cleared(now, OURS)
        is_open = not clearance.is_waiting(now)
        assert not (is_open and not was_allowed)
        assert is_open or not has_served
        if is_open and is_settled:
            clearance.note_served()
            has_served = True


@given(CLEARED, st.lists(KINDS, unique=True), KINDS)
def test_choosing_touches_nothing_but_probes(
    cleared: list[EngineKind] | None, kinds: list[EngineKind], own: EngineKind
) -> None:
    before = gated(cleared, entry(*kinds), version("acme/b@1"))

    after = choose_probes(before, own)

    def bare(told: FleetSnapshot) -> FleetSnapshot:
        versions = [msgspec.structs.replace(e, probe=None, probes=[]) for e in told.versions]
        return msgspec.structs.replace(told, versions=versions)

    assert bare(after) == bare(before)
    (first, _) = after.versions
    possible = [None, *(item.probe for item in before.versions[0].probes), before.versions[0].probe]
    assert first.probe in possible
