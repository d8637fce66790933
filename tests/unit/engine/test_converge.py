"""Single decisions of the engine's plan."""

from __future__ import annotations

from dataclasses import replace

from serving.contract import Role
from serving.engine.converge import (
    Abort,
    Fetch,
    FollowAliases,
    ForgetArtifact,
    Load,
    LocalState,
    LocalVersion,
    Probe,
    Remove,
    Stage,
    plan,
)
from tests.builders.snapshots import snapshot, version

V1, V2 = version("acme/support@1"), version("acme/support@2")
FOLLOWED = LocalState(followed_revision=1, verified=frozenset({V1.digest, V2.digest}))


def known(entry, stage: Stage, **fields) -> LocalVersion:  # type: ignore[no-untyped-def]
    return LocalVersion(entry.name, entry.digest, stage, **fields)


def state(*versions: LocalVersion) -> LocalState:
    return replace(FOLLOWED, versions={item.name: item for item in versions})


def test_a_new_version_is_fetched_then_loaded_then_probed() -> None:
    desired = snapshot(V1)

    assert plan(desired, LocalState(), 0.0) == (FollowAliases(1), Fetch(V1.name, V1.digest))
    assert plan(desired, FOLLOWED, 0.0) == (Load(V1.name, V1.digest),)
    assert plan(desired, state(known(V1, Stage.LOADED)), 0.0) == (Probe(V1.name),)
    assert plan(desired, state(known(V1, Stage.PROVEN)), 0.0) == ()


def test_a_candidate_is_settled_when_loaded_and_probed_when_it_becomes_serving() -> None:
    loaded = state(known(V1, Stage.LOADED, is_in_engine=True))

    assert plan(snapshot(version(V1.name, role=Role.CANDIDATE)), loaded, 0.0) == ()
    assert plan(snapshot(V1), loaded, 0.0) == (Probe(V1.name),)


def test_alias_targets_come_first_and_candidates_last() -> None:
    target = version("zeta/late@9")
    candidate = version("acme/aaa@1", role=Role.CANDIDATE)
    desired = snapshot(candidate, V1, target, aliases=(target.name,))

    fetched = [a.name for a in plan(desired, LocalState(), 0.0) if isinstance(a, Fetch)]

    assert fetched == [target.name, V1.name, candidate.name]


def test_a_failed_version_waits_for_its_moment_and_delays_nobody() -> None:
    observed = state(known(V1, Stage.FAILED, retry_at=10.0))

    assert plan(snapshot(V1, V2), observed, 9.0) == (Load(V2.name, V2.digest),)
    assert Load(V1.name, V1.digest) in plan(snapshot(V1, V2), observed, 10.0)


def test_a_new_attempt_does_not_wait() -> None:
    again = version(V1.name, attempt=1)
    observed = state(known(V1, Stage.FAILED, retry_at=10.0))

    assert plan(snapshot(again), observed, 0.0) == (Load(V1.name, V1.digest),)


def test_a_quarantined_version_is_aborted_then_removed_then_left_alone() -> None:
    desired = snapshot(V1)
    busy = known(V1, Stage.QUARANTINED, is_in_engine=True, in_flight=2)

    assert plan(desired, state(busy), 0.0) == (Abort(V1.name),)
    assert plan(desired, state(replace(busy, in_flight=0)), 0.0) == (Remove(V1.name, False),)
    out = known(V1, Stage.QUARANTINED)
    assert plan(desired, state(out), 1e9) == ()
    assert plan(snapshot(version(V1.name, attempt=1)), state(out), 0.0) == (
        Load(V1.name, V1.digest),
    )


def test_a_version_that_failed_its_probe_leaves_the_engine() -> None:
    observed = state(known(V1, Stage.FAILED, is_in_engine=True, retry_at=99.0))

    assert plan(snapshot(V1), observed, 0.0) == (Remove(V1.name, False),)


def test_a_retired_version_waits_for_its_last_request() -> None:
    busy = known(V1, Stage.PROVEN, is_in_engine=True, in_flight=1)

    assert plan(snapshot(), state(busy), 0.0) == ()
    assert plan(snapshot(), state(replace(busy, in_flight=0)), 0.0) == (Remove(V1.name, True),)


def test_bytes_are_deleted_only_when_no_version_here_or_wanted_needs_them() -> None:
    observed = replace(FOLLOWED, on_disk=frozenset({V1.digest, V2.digest}))
    leaving = known(V1, Stage.PROVEN, in_flight=1)

    assert plan(snapshot(), observed, 0.0) == (
        ForgetArtifact(min(V1.digest, V2.digest)),
        ForgetArtifact(max(V1.digest, V2.digest)),
    )
    held = replace(observed, versions={V1.name: leaving})
    assert plan(snapshot(), held, 0.0) == (ForgetArtifact(V2.digest),)


def test_two_versions_of_the_same_bytes_need_one_fetch() -> None:
    twin = version("beta/copy@1", digest=V1.digest)

    fetches = [a for a in plan(snapshot(V1, twin), LocalState(), 0.0) if isinstance(a, Fetch)]

    assert len(fetches) == 1


def test_a_name_that_means_other_bytes_now_is_removed_first() -> None:
    other = version(V1.name, digest="sha256:" + "0" * 64)
    observed = state(known(V1, Stage.PROVEN, is_in_engine=True))

    assert plan(snapshot(other), observed, 0.0) == (Remove(V1.name, True),)
