"""Deltas lead where the whole snapshot leads, or are refused; short reports say the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.abridged_report import abridge, expand
from serving.contract import (
    AliasEntry,
    EngineKind,
    EngineReport,
    EngineWishes,
    FleetSnapshot,
    KeyGrant,
    TenantEntry,
    VersionReport,
    VersionState,
    decode_report,
    decode_snapshot,
    encode,
)
from serving.snapshot_delta import (
    DeltaMismatch,
    HeldSnapshot,
    apply,
    decode_delta,
    diff,
    encode_delta,
)
from tests.builders.snapshots import version

NAMES = [f"{tenant}/{adapter}@{n}" for tenant in "ab" for adapter in "xy" for n in (1, 2)]
KINDS = st.builds(EngineKind, st.sampled_from("pq"), st.just("base"), st.just("float32"))


@st.composite
def snapshots(draw: st.DrawFn) -> FleetSnapshot:
    """As `compile_snapshot` makes them: nothing twice, each list in its order."""
    names = sorted(draw(st.sets(st.sampled_from(NAMES))))
    adapters = sorted(draw(st.sets(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")))))
    tenants = sorted(draw(st.sets(st.sampled_from("abc"))))
    keys = sorted(draw(st.sets(st.sampled_from(["k1", "k2", "a", "z"]))))
    engines = sorted(draw(st.sets(st.sampled_from(["e1", "e2"]))))
    gate = KeyGrant("gate", "0", "", ["gate"])
    return FleetSnapshot(
        revision=draw(st.integers(0, 5)),
        fleet="base",
        store_url=draw(st.sampled_from(["file:///a", "file:///b"])),
        versions=[version(name, attempt=draw(st.integers(0, 2))) for name in names],
        aliases=[AliasEntry(*key, draw(st.integers(1, 2))) for key in adapters],
        keys=[gate, *(KeyGrant(k, draw(st.sampled_from("12")), "a", []) for k in keys)],
        tenants=[TenantEntry(name, draw(st.sampled_from([None, 3]))) for name in tenants],
        residency=[EngineWishes(name, draw(st.lists(st.sampled_from(NAMES)))) for name in engines],
        cleared=draw(st.none() | st.lists(KINDS, max_size=2)),
    )


@given(snapshots(), snapshots())
def test_a_delta_over_the_wire_leads_to_the_other_snapshot(
    before: FleetSnapshot, after: FleetSnapshot
) -> None:
    ours, theirs = HeldSnapshot.of(before), HeldSnapshot.of(decode_snapshot(encode(before)))
    delta = diff(ours, HeldSnapshot.of(after, ours))

    found = apply(theirs, decode_delta(encode_delta(delta)))

    assert found.snapshot == after
    assert found.tag == HeldSnapshot.of(after).tag


@given(snapshots(), snapshots())
def test_two_snapshots_have_one_tag_only_when_they_are_equal(
    one: FleetSnapshot, other: FleetSnapshot
) -> None:
    assert (HeldSnapshot.of(one).tag == HeldSnapshot.of(other).tag) == (one == other)


@given(snapshots(), snapshots(), snapshots())
def test_a_delta_of_another_snapshot_is_refused(
    before: FleetSnapshot, after: FleetSnapshot, other: FleetSnapshot
) -> None:
    delta = diff(HeldSnapshot.of(before), HeldSnapshot.of(after))
    held = HeldSnapshot.of(other)

    if held.tag == delta.base:
        assert apply(held, delta).snapshot == after
        return
    with pytest.raises(DeltaMismatch, match="this is"):
        apply(held, delta)
    with pytest.raises(DeltaMismatch):
        # Also where somebody mixes up which one it was.
        assert apply(held, msgspec.structs.replace(delta, base=held.tag, tag="?"))


def test_a_delta_holds_what_has_changed_alone() -> None:
    many = [version(name) for name in NAMES]
    before = FleetSnapshot(1, "base", "file:///a", versions=many)
    moved = [*many[:3], version(NAMES[3], attempt=7), *many[4:-1]]
    after = FleetSnapshot(2, "base", "file:///a", versions=moved)

    delta = diff(HeldSnapshot.of(before), HeldSnapshot.of(after))

    assert [entry.name for entry in delta.versions.put] == [NAMES[3]]
    assert delta.versions.gone == [[NAMES[-1]]]
    assert not delta.aliases.put
    assert not delta.keys.put


def test_a_delta_of_a_newer_format_is_refused() -> None:
    held = HeldSnapshot.of(FleetSnapshot(1, "base", "file:///a"))
    delta = msgspec.structs.replace(diff(held, held), format=99)

    with pytest.raises(msgspec.ValidationError, match="format 99 is newer"):
        decode_delta(encode_delta(delta))


def a_report(held: HeldSnapshot, versions: list[VersionReport], revision: int) -> EngineReport:
    return EngineReport(
        engine_id="e1", url="http://e1", build="b", dtype="float32", revision=revision,
        is_ready=True, started_at=1.0, gpu_slots=1, cpu_slots=4, max_rank=8, max_model_len=64,
        versions=versions,
    )  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> tuple[HeldSnapshot, EngineReport]:
    """What an engine says that follows a snapshot, or another; it may hold others, too."""
    held = HeldSnapshot.of(draw(snapshots()))
    said = {
        name: VersionReport(
            name,
            draw(st.sampled_from([version(name).digest, "sha256:other"])),
            draw(st.sampled_from(VersionState)),
            in_flight=draw(st.integers(0, 1)),
            attempt=draw(st.integers(0, 2)),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    whole = {**held.proven, **said}
    if draw(st.booleans()):
        whole = said
    revision = draw(st.sampled_from([held.snapshot.revision, 9]))
    return held, a_report(held, [whole[name] for name in sorted(whole)], revision)


@given(reports())
def test_a_short_report_over_the_wire_says_what_the_whole_one_says(
    given_: tuple[HeldSnapshot, EngineReport],
) -> None:
    held, report = given_

    short = decode_report(encode(abridge(report, held)))

    if short.rest_proven_in:
        assert expand(short, held) == report
    else:
        assert short == report


def test_what_goes_as_wanted_is_not_said_and_reports_share_one_list() -> None:
    held = HeldSnapshot.of(FleetSnapshot(4, "base", "f", versions=[version(n) for n in NAMES]))
    report = a_report(held, held.proven_list, 4)

    short = abridge(report, held)

    assert short.versions == []
    assert short.format > report.format
    assert expand(short, held).versions is expand(short, held).versions


def test_a_short_report_is_expanded_by_its_own_snapshot_alone() -> None:
    held = HeldSnapshot.of(FleetSnapshot(4, "base", "f", versions=[version(NAMES[0])]))
    other = HeldSnapshot.of(FleetSnapshot(5, "base", "f", versions=[version(NAMES[0])]))
    short = abridge(a_report(held, held.proven_list, 4), held)

    with pytest.raises(ValueError, match="the report is of"):
        expand(short, other)


def test_a_report_that_leaves_out_a_wanted_version_is_sent_whole() -> None:
    held = HeldSnapshot.of(FleetSnapshot(4, "base", "f", versions=[version(n) for n in NAMES]))
    report = a_report(held, held.proven_list[1:], 4)

    assert abridge(report, held) is report
