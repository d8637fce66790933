"""Partial policies, whatever their content: what is written is what is read and what holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.parity.policy import (
    GatePolicy,
    PolicyPatch,
    PolicySource,
    Scope,
    parse_policy,
    resolve,
)

RATES = st.floats(0.0, 1.0)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "margin": RATES,
        "repeats": st.integers(1, 20),
        "min_repeats": st.integers(1, 20),
        "noise_factor": st.floats(1e-3, 1e6),
        "require_export_evidence": st.booleans(),
        "on_inconclusive": st.sampled_from(["hold", "promote"]),
        "on_recheck_fail": st.sampled_from(["alert", "rollback"]),
        "runner": st.sampled_from(["peft", "openai", "merged"]),
        "segment_thresholds": st.dictionaries(st.text(min_size=1, max_size=20), RATES, max_size=4),
        "contamination": st.fixed_dictionaries(
            {}, optional={"jaccard": st.floats(0.1, 1.0), "shingle": st.integers(1, 50)}
        ),
    },
)
FLEET, TENANT, ADAPTER = (
    PolicySource(scope, 1) for scope in (Scope.FLEET, Scope.TENANT, Scope.ADAPTER)
)


@given(POLICIES)
def test_a_policy_that_is_written_reads_back_the_same(content: dict[str, Any]) -> None:
    patch = parse_policy(content)

    assert parse_policy(patch.to_json()) == patch
    whole = resolve(GatePolicy(), (FLEET, patch)).policy
    assert resolve(GatePolicy(), (FLEET, parse_policy(whole.to_json()))).policy == whole


@given(POLICIES, POLICIES, POLICIES)
def test_each_field_is_from_the_narrowest_scope_that_names_it(
    fleet: dict[str, Any], tenant: dict[str, Any], adapter: dict[str, Any]
) -> None:
    patches = [
        (FLEET, parse_policy(fleet)),
        (TENANT, parse_policy(tenant)),
        (ADAPTER, parse_policy(adapter)),
    ]

    resolved = resolve(GatePolicy(), *patches)

    for name, source in resolved.sources.items():
        naming = [given for given, patch in patches if name in patch.values]
        assert source == (naming[-1] if naming else PolicySource(Scope.DEFAULT))


@given(POLICIES, POLICIES)
def test_laying_over_twice_is_laying_over_once(
    fleet: dict[str, Any], tenant: dict[str, Any]
) -> None:
    one, two = (FLEET, parse_policy(fleet)), (TENANT, parse_policy(tenant))

    once = resolve(GatePolicy(), one, two)

    assert resolve(GatePolicy(), one, two, two) == once
    assert resolve(GatePolicy(), one, (ADAPTER, PolicyPatch()), two) == once
