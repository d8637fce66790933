"""Rows -> snapshot: nothing of a row's order, nothing that is not held, nobody's secrets."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from serving.contract import FleetSnapshot, Role, decode_snapshot, encode
from serving.controller.lifecycle import SERVING_STATES, State
from serving.controller.registry.fleet import SnapshotRows
from serving.controller.registry.moves import version_id
from serving.controller.registry.tables import KeyRow, TenantRow, VersionRow, WishesRow
from serving.controller.snapshot import compile_snapshot

NAMES = st.sampled_from(["acme", "globex", "initech"])
ADAPTERS = st.sampled_from(["support", "sql"])
SCOPES = st.lists(st.sampled_from(["inference", "base", "read", "push", "promote"]), unique=True)
PROBE = {"cases": [], "max_mean_delta_nats": 0.1, "tie_margin_nats": 0.5}


@st.composite
def versions(draw: st.DrawFn) -> VersionRow:
    tenant, adapter, number = draw(NAMES), draw(ADAPTERS), draw(st.integers(1, 4))
    return VersionRow(
        id=version_id(tenant, adapter, number),
        tenant_id=tenant,
        adapter=adapter,
        number=number,
        digest="sha256:" + "0" * 64,
        files=[{"name": name, "sha256": "0" * 64, "size_bytes": 1} for name in ("b", "a")],
        rank=draw(st.sampled_from([None, 8])),
        state=draw(st.sampled_from(State)).value,
        gate_phase=draw(st.sampled_from([None, "candidate"])),
        probe=draw(st.sampled_from([None, PROBE])),
        attempt=draw(st.integers(0, 3)),
    )


@st.composite
def wishes(draw: st.DrawFn) -> WishesRow:
    names = st.builds(version_id, NAMES, ADAPTERS, st.integers(1, 4))
    lists = st.lists(names, unique=True, max_size=5)
    return WishesRow(
        engine_id=draw(st.sampled_from(["engine-0", "engine-1", "engine-2"])),
        hot=draw(lists),
        companions=draw(st.dictionaries(NAMES, lists, max_size=2)),
    )


@st.composite
def all_rows(draw: st.DrawFn) -> SnapshotRows:
    tenants = draw(st.lists(NAMES, unique=True))
    keys = draw(st.lists(st.tuples(NAMES, SCOPES), max_size=5))
    return SnapshotRows(
        revision=draw(st.integers(0, 9)),
        tenants=[TenantRow(id=name, max_in_flight=None) for name in tenants],
        keys=[
            KeyRow(id=f"key_{n}", tenant_id=tenant, key_hash=f"{n:064x}", scopes=scopes,
                   fallback="none", expires_at=None, prefix="lp_12345678", name="secret name")
            for n, (tenant, scopes) in enumerate(keys)
        ],
        versions=draw(st.lists(versions(), unique_by=lambda row: row.id, max_size=8)),
        aliases=[
            (tenant, adapter, number)
            for (tenant, adapter), number in draw(
                st.dictionaries(st.tuples(NAMES, ADAPTERS), st.integers(1, 4))
            ).items()
        ],
        wishes=draw(st.lists(wishes(), unique_by=lambda row: row.engine_id, max_size=3)),
    )  # fmt: skip


def compiled(rows: SnapshotRows) -> FleetSnapshot:
    return compile_snapshot(rows, fleet="base", store_url="file:///s", gate_key_hash="f" * 64)


@given(all_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: SnapshotRows, rng: random.Random) -> None:
    shuffled = SnapshotRows(
        revision=rows.revision,
        **{
            name: rng.sample(getattr(rows, name), len(getattr(rows, name)))
            for name in ("tenants", "keys", "versions", "aliases", "wishes")
        },
    )

    assert encode(compiled(shuffled)) == encode(compiled(rows))


@given(all_rows())
def test_it_survives_the_wire(rows: SnapshotRows) -> None:
    assert decode_snapshot(encode(compiled(rows))) == compiled(rows)


@given(all_rows())
def test_it_holds_exactly_the_held_versions_of_known_tenants(rows: SnapshotRows) -> None:
    tenants = {row.id for row in rows.tenants}
    found = {entry.name: entry.role for entry in compiled(rows).versions}

    wanted = {}
    for row in rows.versions:
        if row.tenant_id in tenants and State(row.state) in SERVING_STATES:
            wanted[row.id] = Role.SERVING
        if row.tenant_id in tenants and (row.state, row.gate_phase) == ("evaluating", "candidate"):
            wanted[row.id] = Role.CANDIDATE
    assert found == wanted


@given(all_rows())
def test_an_alias_leads_to_a_serving_version_or_is_left_out(rows: SnapshotRows) -> None:
    snapshot = compiled(rows)
    serving = {entry.name for entry in snapshot.versions if entry.role is Role.SERVING}

    for alias in snapshot.aliases:
        assert version_id(alias.tenant, alias.adapter, alias.number) in serving


@given(all_rows())
def test_keys_reach_engines_only_for_inference_and_with_engine_scopes(
    rows: SnapshotRows,
) -> None:
    grants = {grant.key_id: grant for grant in compiled(rows).keys}
    tenants = {row.id for row in rows.tenants}

    gate = grants.pop("gate")
    assert (gate.tenant, gate.scopes) == ("", ["gate"])
    assert grants.keys() == {
        row.id for row in rows.keys if "inference" in row.scopes and row.tenant_id in tenants
    }
    for grant in grants.values():
        assert set(grant.scopes) <= {"inference", "base"}
    assert b"secret name" not in encode(compiled(rows))


@given(all_rows())
def test_wishes_name_only_what_is_served_in_the_order_of_the_row(rows: SnapshotRows) -> None:
    snapshot = compiled(rows)
    served = {entry.name for entry in snapshot.versions if entry.role is Role.SERVING}
    by_engine = {row.engine_id: row for row in rows.wishes}

    for wish in snapshot.residency:
        row = by_engine[wish.engine]
        assert wish.hot == [name for name in row.hot if name in served]
        for tenant, names in wish.companions.items():
            assert names == [name for name in row.companions[tenant] if name in served]
        assert wish.hot or wish.companions
    wished = {wish.engine for wish in snapshot.residency}
    assert {row.engine_id for row in rows.wishes if served & set(row.hot)} <= wished
