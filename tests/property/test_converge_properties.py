"""From any state and through any crash, plans bring a simulated engine to what is desired."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.contract import FleetSnapshot, Role, VersionEntry
from serving.engine.converge import (
    Abort,
    Action,
    Fetch,
    FollowAliases,
    ForgetArtifact,
    Load,
    LocalState,
    LocalVersion,
    Probe,
    Remove,
    Stage,
    is_settled,
    plan,
)
from tests.builders.snapshots import snapshot, version

NAMES = [f"acme/a{i}@{n}" for i in range(3) for n in (1, 2)]
DIGESTS = [f"sha256:{i:064x}" for i in range(4)]
ROUNDS = 12
"""Fetch, load, probe, remove and forget are one each; retries and departures need a few more."""

entries = st.builds(
    lambda name, digest, role, attempt: version(name, digest=digest, role=role, attempt=attempt),
    st.sampled_from(NAMES),
    st.sampled_from(DIGESTS),
    st.sampled_from(list(Role)),
    st.integers(0, 2),
)
desired_states = st.builds(
    lambda items, revision: snapshot(*items, revision=revision),
    st.lists(entries, max_size=6, unique_by=lambda entry: entry.name),
    st.integers(0, 3),
)
local_versions = st.builds(
    LocalVersion,
    name=st.sampled_from(NAMES),
    digest=st.sampled_from(DIGESTS),
    stage=st.sampled_from(list(Stage)),
    attempt=st.integers(0, 2),
    is_in_engine=st.booleans(),
    in_flight=st.integers(0, 2),
    retry_at=st.none() | st.floats(0, 50),
)
local_states = st.builds(
    lambda revision, verified, extra, items: LocalState(
        followed_revision=revision,
        verified=verified,
        on_disk=verified | extra,
        versions={item.name: item for item in items},
    ),
    st.integers(-1, 3),
    st.frozensets(st.sampled_from(DIGESTS)),
    st.frozensets(st.sampled_from(DIGESTS)),
    st.lists(local_versions, max_size=6, unique_by=lambda item: item.name),
)


def apply(state: LocalState, action: Action, desired: FleetSnapshot) -> LocalState:
    """What the action does to an engine in which every adapter is good."""
    wanted = {entry.name: entry for entry in desired.versions}
    versions = dict(state.versions)
    match action:
        case FollowAliases(revision):
            return replace(state, followed_revision=revision)
        case Fetch(digest=digest):
            return replace(
                state, verified=state.verified | {digest}, on_disk=state.on_disk | {digest}
            )
        case ForgetArtifact(digest):
            assert digest not in {entry.digest for entry in desired.versions}
            return replace(
                state, verified=state.verified - {digest}, on_disk=state.on_disk - {digest}
            )
        case Load(name, digest):
            assert digest in state.verified
            versions[name] = advanced(wanted[name], versions.get(name), Stage.LOADED)
        case Probe(name):
            versions[name] = advanced(wanted[name], versions[name], Stage.PROVEN)
        case Abort(name):
            versions[name] = replace(versions[name], in_flight=0)
        case Remove(name, is_forgotten):
            assert versions[name].in_flight == 0
            if is_forgotten:
                del versions[name]
            else:
                versions[name] = replace(versions[name], is_in_engine=False)
    return replace(state, versions=versions)


def advanced(entry: VersionEntry, before: LocalVersion | None, stage: Stage) -> LocalVersion:
    return LocalVersion(
        entry.name,
        entry.digest,
        stage,
        attempt=entry.attempt,
        is_in_engine=True,
        in_flight=before.in_flight if before else 0,
    )


def crashed(state: LocalState) -> LocalState:
    """kill -9: the disk stays, and it holds half-written folders for all that we know."""
    return LocalState(on_disk=state.on_disk)


def run(desired: FleetSnapshot, state: LocalState, crash_after: int) -> LocalState:
    n_applied = 0
    for round_number in range(ROUNDS):
        for action in plan(desired, state, now=100.0 + round_number):
            state = apply(state, action, desired)
            n_applied += 1
            if n_applied == crash_after:
                state = crashed(state)
                break
        # Requests end; new ones come only to what may be used.
        state = replace(
            state,
            versions={n: replace(v, in_flight=0) for n, v in state.versions.items()},
        )
    return state


def is_right(entry: VersionEntry, state: LocalState) -> bool:
    found = state.versions.get(entry.name)
    if is_settled(entry, found):
        return True
    return (
        found is not None
        and found.stage is Stage.QUARANTINED
        and entry.attempt <= found.attempt
        and not found.is_in_engine
    )


@settings(max_examples=400, deadline=None)
@given(desired_states, local_states, st.integers(1, 20))
def test_any_state_and_crash_point_reaches_the_desired_state(
    desired: FleetSnapshot, state: LocalState, crash_after: int
) -> None:
    final = run(desired, state, crash_after)

    assert final.followed_revision >= desired.revision
    assert all(is_right(entry, final) for entry in desired.versions)
    assert final.versions.keys() == {entry.name for entry in desired.versions}
    assert final.on_disk <= {entry.digest for entry in desired.versions}
    assert plan(desired, final, now=1000.0) == ()


@settings(max_examples=300, deadline=None)
@given(desired_states, local_states, st.floats(0, 100))
def test_nothing_with_requests_in_flight_is_ever_removed(
    desired: FleetSnapshot, state: LocalState, now: float
) -> None:
    for action in plan(desired, state, now):
        if isinstance(action, Remove):
            assert state.versions[action.name].in_flight == 0


@settings(max_examples=300, deadline=None)
@given(desired_states, local_states, local_versions)
def test_one_bad_version_changes_nobody_elses_plan(
    desired: FleetSnapshot, state: LocalState, bad: LocalVersion
) -> None:
    bad = replace(bad, name="beta/bad@1", digest="sha256:" + "f" * 64, stage=Stage.FAILED)
    bad = replace(bad, retry_at=1e9)
    spoilt = snapshot(
        *desired.versions, version(bad.name, digest=bad.digest), revision=desired.revision
    )
    with_bad = replace(state, versions={**state.versions, bad.name: bad})

    others = [a for a in plan(spoilt, with_bad, 10.0) if getattr(a, "name", None) != bad.name]

    assert tuple(others) == plan(desired, state, 10.0)


@settings(max_examples=200, deadline=None)
@given(desired_states, local_states)
def test_no_bytes_are_deleted_that_a_version_needs(
    desired: FleetSnapshot, state: LocalState
) -> None:
    needed = {e.digest for e in desired.versions} | {v.digest for v in state.versions.values()}

    for action in plan(desired, state, 0.0):
        if isinstance(action, ForgetArtifact):
            assert action.digest not in needed
