"""Policies: strict reading, and which scope wins."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import PolicyInvalid
from adapters.parity import policy
from adapters.parity.policy import (
    ContaminationPolicy,
    GatePolicy,
    OnInconclusive,
    PolicySource,
    Scope,
    field_names,
    parse_policy,
    resolve,
)

PAGE = Path(__file__).parents[4] / "docs" / "policy.md"
FLEET, TENANT = PolicySource(Scope.FLEET, 3), PolicySource(Scope.TENANT, 1)


def flat_fields() -> dict[str, Any]:
    default = GatePolicy().to_json()
    inner = default.pop("contamination")
    return {**default, **{f"contamination.{name}": value for name, value in inner.items()}}


def test_every_field_has_a_rule_that_takes_its_default() -> None:
    assert set(field_names()) == set(flat_fields())

    parsed = parse_policy(GatePolicy().to_json())

    assert resolve(GatePolicy(), (FLEET, parsed)).policy == GatePolicy()


def test_the_defaults_are_the_documented_ones() -> None:
    default = GatePolicy()

    assert (default.margin, default.confidence, default.repeats) == (0.005, 0.95, 3)
    assert (default.min_cases, default.min_numeric_cases) == (50, 8)
    assert (default.min_cases_per_segment, default.noise_factor) == (20, 3.0)
    assert default.contamination == ContaminationPolicy(
        jaccard=0.7, shingle=5, num_perm=256, max_fraction=0.005
    )
    assert default.on_inconclusive is OnInconclusive.HOLD
    assert default.require_export_evidence is False


def test_the_page_has_every_field_with_its_default() -> None:
    row = r"^\| `([^`]+)` \| (?:`([^`]*)`|\(none\)) \|"
    rows = dict(re.findall(row, PAGE.read_text(), re.MULTILINE))

    assert rows == {name: json.dumps(value).strip('"') for name, value in flat_fields().items()}


def test_every_field_says_what_it_means() -> None:
    source = Path(str(policy.__file__)).read_text()

    for owner in (GatePolicy, ContaminationPolicy):
        for item in dataclasses.fields(owner):
            assert re.search(rf'^    {item.name}: .*\n    """', source, re.MULTILINE), item.name


def test_the_narrower_scope_wins_and_the_wider_one_keeps_the_rest() -> None:
    fleet = parse_policy({"margin": 0.1, "repeats": 5, "segment_thresholds": {"a": 0.5, "b": 0.6}})
    tenant = parse_policy({"gate": {"margin": 0.2, "segment_thresholds": {"b": 0.0}}})

    resolved = resolve(GatePolicy(), (FLEET, fleet), (TENANT, tenant))

    assert (resolved.policy.margin, resolved.policy.repeats) == (0.2, 5)
    assert resolved.policy.segment_thresholds == {"a": 0.5, "b": 0.0}
    assert resolved.sources["margin"] == TENANT
    assert resolved.sources["segment_thresholds.a"] == FLEET
    assert resolved.sources["confidence"] == PolicySource(Scope.DEFAULT)
    assert resolved.applied == (PolicySource(Scope.DEFAULT), FLEET, TENANT)


def test_no_more_repeats_are_needed_than_are_made() -> None:
    resolved = resolve(GatePolicy(), (FLEET, parse_policy({"repeats": 1})))

    assert resolved.policy.min_repeats == 1


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"margn": 0.1}, "margn"),
        ({"contamination": {"jacard": 0.1}}, "contamination.jacard"),
        ({"contamination": 0.7}, "contamination"),
        ({"contamination.jaccard": 0.7}, "contamination.jaccard"),
        ({"gate": {}, "margin": 0.1}, "gate"),
        ({1: 2}, "1"),
        ({"margin": "0.1"}, "margin"),
        ({"margin": True}, "margin"),
        ({"margin": None}, "margin"),
        ({"margin": -0.1}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"margin": 10**400}, "margin"),
        ({"noise_factor": 0}, "noise_factor"),
        ({"repeats": 2.0}, "repeats"),
        ({"repeats": 0}, "repeats"),
        ({"require_export_evidence": 1}, "require_export_evidence"),
        ({"on_inconclusive": "ignore"}, "on_inconclusive"),
        ({"runner": ["peft"]}, "runner"),
        ({"segment_thresholds": [0.5]}, "segment_thresholds"),
        ({"segment_thresholds": {"": 0.5}}, "segment_thresholds"),
        ({"segment_thresholds": {"a": 1.1}}, "segment_thresholds.a"),
        ({"segment_thresholds": dict.fromkeys(map(str, range(1001)), 0.1)}, "segment_thresholds"),
        ([], ""),
        ("margin", ""),
    ],
)
def test_what_is_no_policy_is_refused_by_field_with_a_fix(content: Any, field: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(content)

    assert caught.value.fields["field"] == field
    assert caught.value.fields["problem"]
    assert caught.value.fields["fix"]


def test_a_misspelt_field_is_told_the_right_one() -> None:
    with pytest.raises(PolicyInvalid, match="Did you mean min_cases_per_segment"):
        parse_policy({"min_case_per_segment": 5})


def test_nothing_at_all_is_a_policy_that_changes_nothing() -> None:
    assert parse_policy(None).values == parse_policy({}).values == {}
