"""When a proof no longer covers what the fleet runs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from serving.controller.registry.fleet import ObservedEngine
from serving.controller.staleness import Proof, find_stale, running_now
from tests.builders.controller import a_report

OLD = Proof("vllm 1", "base-a", "float32")
NEW = replace(OLD, engine_build="vllm 2")
PROOFS = st.builds(
    Proof, st.sampled_from(["b1", "b2"]), st.sampled_from(["r1", "r2"]), st.sampled_from(["f", "g"])
)


def test_the_same_build_base_and_number_type_need_no_new_proof() -> None:
    assert find_stale([OLD], [OLD]) is None


def test_each_fact_that_changed_is_named() -> None:
    base, dtype = replace(OLD, base_revision="base-b"), replace(OLD, dtype="bfloat16")

    for running, changed in ((NEW, "engine_build"), (base, "base_revision"), (dtype, "dtype")):
        stale = find_stale([OLD], [running])
        assert stale is not None
        assert stale.changed == (changed,)
        assert stale.to_json()["was"]["engine_build"] == "vllm 1"


def test_while_engines_are_replaced_each_build_needs_a_proof_and_keeps_it() -> None:
    stale = find_stale([OLD], [OLD, NEW])

    assert stale is not None
    assert stale.now == NEW
    assert find_stale([NEW, OLD], [OLD, NEW]) is None
    assert find_stale([NEW, OLD], [OLD]) is None, "a downgrade needs nothing new"


def test_what_was_never_measured_cannot_be_out_of_date() -> None:
    assert find_stale([], [NEW]) is None
    assert find_stale([OLD], []) is None


@given(st.lists(PROOFS, min_size=1), st.lists(PROOFS))
def test_measuring_what_is_named_ends_after_one_proof_for_each_running_kind(
    proofs: list[Proof], running: list[Proof]
) -> None:
    rounds = 0
    while (stale := find_stale(proofs, running)) is not None:
        assert stale.now in running
        assert stale.now not in proofs
        proofs, rounds = [stale.now, *proofs], rounds + 1

    assert rounds <= len(set(running))


def test_only_ready_and_reachable_engines_say_what_runs() -> None:
    engines = [
        ObservedEngine(a_report("e1", build="ready"), seen_at=100.0),
        ObservedEngine(a_report("e2", build="ready"), seen_at=100.0),
        ObservedEngine(a_report("e3", build="starting", is_ready=False), seen_at=100.0),
        ObservedEngine(a_report("e4", build="unreachable"), seen_at=0.0),
    ]

    found = running_now(engines, base_revision="base-a", now=110.0, timeout_seconds=15.0)

    assert found == [Proof("ready", "base-a", "float32")]
