"""What follows from a LoraAdapter and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.controller.lifecycle import State
from serving.controller.registry.managed import ManagedAdapter
from serving.kube.lora_adapter import (
    Follow,
    Known,
    Plan,
    Resource,
    Standing,
    SuiteRef,
    choose_owners,
    find_gone,
    find_problem,
    parse_resource,
    plan_adapter,
    plan_known,
)

SPEC: dict[str, Any] = {
    "tenant": "acme",
    "adapter": "support",
    "source": {"uri": "s3://models/support"},
    "promote": "auto",
    "deletionPolicy": "Retain",
}


def resource(
    name: str = "support", *, uid: str = "u1", generation: int = 1, at: int = 1, **spec: Any
) -> Resource:
    metadata = {
        "name": name, "namespace": "fleet", "uid": uid, "generation": generation,
        "creationTimestamp": f"2026-11-30T00:00:{at:02}Z",
    }  # fmt: skip
    return parse_resource({"metadata": metadata, "spec": {**SPEC, **spec}})


def record(**chosen: Any) -> ManagedAdapter:
    values: dict[str, Any] = {
        "tenant": "acme", "adapter": "support", "uid": "u1", "namespace": "fleet",
        "name": "support", "retires": False, "generation": 1,
        "source_uri": "s3://models/support", "source_mark": "m", "version_id": "acme/support@1",
    }  # fmt: skip
    return ManagedAdapter(**{**values, **chosen})


def standing(owner: Resource | None, remembered: ManagedAdapter | None, **more: Any) -> Standing:
    return Standing(**{"has_tenant": True, "owner": owner, "record": remembered, **more})


def test_a_whole_spec_is_read() -> None:
    found = resource(
        source={"uri": "s3://models/support/", "secretRef": {"name": "reader"}},
        suite={"name": "refunds", "configMapRef": {"name": "suites", "key": "refunds.jsonl"}},
        promote="manual",
        deletionPolicy="Retire",
    )

    wanted = found.wanted
    assert wanted is not None
    assert (wanted.uri, wanted.secret) == ("s3://models/support", "reader")
    assert wanted.suite == SuiteRef("refunds", ("suites", "refunds.jsonl"))
    assert (wanted.promote, wanted.retires) == ("manual", True)
    assert found.actor == "kubernetes:fleet/support"


@pytest.mark.parametrize(
    "spec",
    [
        {"tenant": "Acme"}, {"tenant": None}, {"adapter": "base"}, {"source": None}, {"source": {}},
        {"source": {"uri": "http://x"}}, {"source": {"uri": 7}}, {"promote": "yes"},
        {"deletionPolicy": "Delete"}, {"suite": "refunds"}, {"suite": {}},
        {"suite": {"name": "refunds", "configMapRef": {"name": "x"}}},
        {"source": {"uri": "s3://models/x", "secretRef": {}}},
    ],
)  # fmt: skip
def test_a_spec_that_an_older_schema_let_through_is_a_problem_and_no_exception(
    spec: dict[str, Any],
) -> None:
    found = resource(**spec)

    assert found.wanted is None
    problem = find_problem(found, standing(None, None))
    assert problem is not None
    assert problem.reason == "InvalidSpec"


def test_an_object_without_a_spec_or_with_a_long_name_is_a_problem() -> None:
    metadata = {"name": "x", "namespace": "fleet", "uid": "u", "generation": 1}

    assert parse_resource({"metadata": metadata}).wanted is None
    assert resource("a" * 64).wanted is None


def test_a_new_object_is_looked_at_and_a_registered_one_rests() -> None:
    mine = resource()

    assert plan_adapter(mine, standing(mine, None)) is Plan.LOOK
    assert plan_adapter(mine, standing(mine, record())) is Plan.REST


def test_a_new_generation_and_the_time_ask_for_a_look() -> None:
    mine, changed = resource(), resource(generation=2)

    assert plan_adapter(changed, standing(changed, record())) is Plan.LOOK
    assert plan_adapter(mine, standing(mine, record(), is_look_due=True)) is Plan.LOOK


def test_a_changed_deletion_policy_and_a_new_object_are_remembered_first() -> None:
    retires, fresh = resource(deletionPolicy="Retire", generation=2), resource(uid="u2")

    assert plan_adapter(retires, standing(retires, record())) is Plan.FOLLOW
    assert plan_adapter(fresh, standing(fresh, record())) is Plan.FOLLOW


def test_without_its_tenant_or_beside_an_older_object_it_rests_and_says_why() -> None:
    mine, older = resource(uid="u2", at=2), resource("first", uid="u1", at=1)

    for found, reason in (
        (standing(mine, None, has_tenant=False), "TenantNotFound"),
        (standing(older, None), "Conflict"),
    ):
        problem = find_problem(mine, found)
        assert problem is not None
        assert problem.reason == reason
        assert plan_adapter(mine, found) is Plan.REST


def test_an_object_that_is_being_deleted_is_left_alone_and_owns_nothing() -> None:
    going = replace(resource(), is_leaving=True)
    younger = resource("second", uid="u2", at=9)

    assert plan_adapter(going, standing(going, None)) is Plan.REST
    assert choose_owners([going, younger]) == {("acme", "support"): younger}


def test_the_oldest_owns_and_of_two_of_one_second_always_the_same() -> None:
    a, b, c = resource("a", uid="u3", at=2), resource("b", uid="u2", at=1), resource("c", at=1)

    assert choose_owners([a, b, c])["acme", "support"] is c
    assert choose_owners([c, b, a])["acme", "support"] is c


def test_records_whose_object_is_gone_are_found_by_uid_and_not_by_name() -> None:
    gone, there = record(uid="u0"), record(adapter="sales", uid="u1")

    assert find_gone([gone, there], {"u1": resource()}) == [gone]


def known(state: State, **chosen: Any) -> Known:
    values: dict[str, Any] = {
        "state": state, "suite_id": None, "promote": "auto", "is_new_wish": True,
        "is_other_version": True,
    }  # fmt: skip
    return Known(**{**values, **chosen})


@pytest.mark.parametrize(
    ("was", "promote", "suite", "follow"),
    [
        (known(State.PASSED), "auto", None, Follow.PROMOTE),
        (known(State.PASSED), "manual", None, Follow.STAY),
        (known(State.PASSED, is_new_wish=False), "auto", None, Follow.STAY),
        (known(State.PASSED), "auto", "s@2", Follow.REEVALUATE),
        (known(State.FAILED), "auto", "s@2", Follow.REEVALUATE),
        (known(State.FAILED), "auto", None, Follow.STAY),
        (known(State.SUPERSEDED), "auto", None, Follow.RESTORE),
        (known(State.SUPERSEDED, is_other_version=False), "auto", None, Follow.STAY),
        (known(State.SUPERSEDED), "manual", None, Follow.STAY),
        (known(State.LIVE), "auto", "s@2", Follow.STAY),
        (known(State.RETIRED), "auto", "s@2", Follow.STAY),
        (known(State.VALIDATING), "manual", None, Follow.CHANGE),
        (known(State.VALIDATING), "auto", "s@2", Follow.CHANGE),
        (known(State.EVALUATING), "auto", "s@2", Follow.STAY),
        (known(State.EVALUATING, is_new_wish=False), "manual", None, Follow.CHANGE),
    ],
)
def test_a_known_version_is_led_on_once_for_each_wish(
    was: Known, promote: str, suite: str | None, follow: Follow
) -> None:
    assert plan_known(was, promote=promote, suite_id=suite) is follow
