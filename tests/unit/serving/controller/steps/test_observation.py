"""What reports say about one version: proven, failed, pending, or simply not known."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from serving.contract import EngineReport, VersionReport, VersionState
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.steps.observation import Observation, observe_version

NAME = "acme/support@1"


def engine(
    engine_id: str,
    state: VersionState | None,
    *,
    seen_at: float = 100.0,
    is_ready: bool = True,
    attempt: int = 1,
    revision: int = 5,
) -> ObservedEngine:
    versions = [] if state is None else [VersionReport(NAME, "sha256:x", state, attempt=attempt)]
    report = EngineReport(
        engine_id=engine_id, url="u", build="b", dtype="float32", revision=revision,
        is_ready=is_ready, started_at=1.0, gpu_slots=1, cpu_slots=1, max_rank=16,
        max_model_len=100, versions=versions,
    )  # fmt: skip
    return ObservedEngine(report, seen_at)


def observe(*engines: ObservedEngine, made_at: float = 0.0) -> Observation:
    return observe_version(
        engines, NAME, attempt=1, now=110.0, timeout_seconds=15.0, revision=5, made_at=made_at
    )


def test_without_engines_nothing_is_proven() -> None:
    seen = observe()

    assert not seen.is_proven_everywhere
    assert not seen.has_ready_engine


def test_all_ready_engines_must_have_proven_it() -> None:
    proven = engine("a", VersionState.PROVEN)

    assert observe(proven).is_proven_everywhere
    assert not observe(proven, engine("b", VersionState.LOADING)).is_proven_everywhere
    assert not observe(proven, engine("b", None)).is_proven_everywhere
    assert not observe(proven, engine("b", VersionState.FAILED)).is_proven_everywhere


def test_an_engine_that_is_not_ready_or_not_reachable_does_not_block() -> None:
    proven = engine("a", VersionState.PROVEN)

    seen = observe(proven, engine("b", None, is_ready=False), engine("c", None, seen_at=50.0))

    assert seen.is_proven_everywhere


def test_an_unreachable_engine_proves_nothing_and_may_still_hold_it() -> None:
    seen = observe(engine("a", VersionState.PROVEN, seen_at=50.0))

    assert not seen.is_proven_everywhere
    assert seen.unknown == ("a",)
    assert seen.holding == ()


def test_a_result_of_an_earlier_attempt_does_not_count() -> None:
    for state in (VersionState.PROVEN, VersionState.FAILED):
        seen = observe(engine("a", state, attempt=0))

        assert seen.pending == ("a",)


def test_a_quarantined_version_is_a_failed_one_with_its_reason() -> None:
    seen = observe(engine("a", VersionState.QUARANTINED))

    assert seen.failed[0].to_json() == {"engine": "a", "reason": "quarantined", "detail": None}


def test_an_engine_behind_the_revision_is_named() -> None:
    assert observe(engine("a", None, revision=4)).behind == ("a",)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *VersionState]),
            st.sampled_from([50.0, 100.0]),
            st.booleans(),
            st.integers(0, 2),
        ),
        max_size=6,
    )
)
def test_every_ready_reachable_engine_is_in_exactly_one_group(
    facts: list[tuple[VersionState | None, float, bool, int]],
) -> None:
    engines = [
        engine(f"e{i}", state, seen_at=seen_at, is_ready=is_ready, attempt=attempt)
        for i, (state, seen_at, is_ready, attempt) in enumerate(facts)
    ]

    seen = observe(*engines)

    groups = [report.engine_id for report in seen.proven]
    groups += [failure.engine_id for failure in seen.failed] + list(seen.pending)
    ready = [e.report.engine_id for e in engines if e.seen_at > 95.0 and e.report.is_ready]
    assert sorted(groups) == sorted(ready)


def test_who_leaves_out_what_nobody_can_name_may_hold_what_was_there_when_it_spoke() -> None:
    told = engine("a", None, seen_at=50.0)
    away = replace(told, report=structs.replace(told.report, rest_proven_in="7-ffff"))
    here = replace(away, seen_at=100.0)

    for made_at, names in ((0.0, ("a",)), (50.0, ("a",)), (50.1, ())):
        assert observe(away, made_at=made_at).unknown == names
        assert observe(here, made_at=made_at).holding == ("a",)
    assert observe(here, made_at=100.1).holding == ()
