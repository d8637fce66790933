"""Whatever a LoraAdapter and the registry say: plans settle, statuses are stable and valid."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from adapters.identity import parse_adapter_name
from adapters.source_errors import SourceInvalid
from adapters.source_uri import parse_source_uri
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.managed import ManagedAdapter
from serving.kube.events import tell_transition
from serving.kube.lora_adapter import (
    Plan,
    Problem,
    Resource,
    Standing,
    Wanted,
    choose_owners,
    parse_resource,
    plan_adapter,
)
from serving.kube.lora_status import (
    MAX_MESSAGE,
    Facts,
    VersionFacts,
    condition_of,
    diff_status,
    find_failure,
    render_status,
)
from tests.builders.lora_world import CRD_FILE

SCHEMA = yaml.safe_load(CRD_FILE.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]["properties"]
STATUS = SCHEMA["properties"]["status"]["properties"]
REASON = re.compile(STATUS["conditions"]["items"]["properties"]["reason"]["pattern"])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)
uids = st.sampled_from(["u1", "u2", "u3"])
failures = st.fixed_dictionaries(
    {"engine": st.sampled_from(["e0", "e1"]), "reason": st.text(max_size=3000)},
    optional={"detail": st.none() | st.text(max_size=10)},
)
errors = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["stage_timeout", "engine_cannot_prove", "waiting_for_engine"]),
        "failed": st.lists(failures, max_size=3),
        "terminal": st.booleans(),
        "waiting_for": st.lists(st.text(max_size=5), max_size=2),
    },
)
versions = st.builds(
    VersionFacts,
    id=st.just("acme/support@3"),
    number=st.just(3),
    state=st.sampled_from(State),
    digest=st.just("sha256:" + "0" * 64),
    verdict=st.none() | st.sampled_from(Verdict),
    promote_mode=st.sampled_from(["auto", "manual"]),
    findings=st.lists(
        st.fixed_dictionaries(
            {"code": st.text(max_size=9), "severity": st.sampled_from(["blocking", "warning"])}
        ),
        max_size=12,
    ).map(tuple),
    reasons=st.lists(st.text(max_size=3000), max_size=3).map(tuple),
    error=errors,
    override=st.none() | st.text(max_size=3000),
    outages=st.lists(st.text(max_size=3000), max_size=2).map(tuple),
    recheck_failed=st.booleans(),
    has_report=st.booleans(),
)
facts = st.builds(
    Facts,
    is_registered=st.booleans(),
    version=st.none() | versions,
    live=st.none() | st.sampled_from([2, 3]),
    problem=st.none()
    | st.builds(Problem, st.sampled_from(["Conflict", "SourceForbidden"]), st.text(max_size=3000)),
)
wishes = st.builds(
    Wanted,
    tenant=st.sampled_from(["acme", "globex"]),
    adapter=st.sampled_from(["support", "sales"]),
    uri=st.just("s3://models/x"),
    retires=st.booleans(),
)
resources = st.builds(
    Resource,
    namespace=st.just("fleet"),
    name=st.sampled_from(["a", "b"]),
    uid=uids,
    generation=st.integers(1, 3),
    created_at=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
    is_leaving=st.booleans(),
    wanted=st.none() | wishes,
    problem=st.just(Problem("InvalidSpec", "x")),
)
A_RESOURCE = parse_resource(
    {
        "metadata": {"name": "support", "namespace": "fleet", "uid": "u1", "generation": 4},
        "spec": {"tenant": "acme", "adapter": "support", "source": {"uri": "s3://models/x"}},
    }
)


@given(json_values, json_values)
def test_any_spec_is_read_or_is_a_problem(spec: Any, source: Any) -> None:
    metadata = {"name": "x", "namespace": "fleet", "uid": "u", "generation": 1}
    for body in (spec, {"tenant": "acme", "adapter": "support", "source": source, "suite": spec}):
        found = parse_resource({"metadata": metadata, "spec": body})

        assert (found.wanted is None) != (found.problem is None)


@given(st.from_regex(SPEC["adapter"]["pattern"], fullmatch=True) | st.text(max_size=70))
def test_a_name_that_the_schema_takes_is_one_that_the_code_takes(name: str) -> None:
    rules = SPEC["adapter"]["x-kubernetes-validations"]
    reserved = set(re.findall(r"'([a-z]+)'", rules[1]["rule"]))
    is_taken = bool(
        re.fullmatch(SPEC["adapter"]["pattern"], name)
        and "\n" not in name
        and ".." not in name
        and name not in reserved
    )

    try:
        parse_adapter_name(name)
    except Exception:  # noqa: BLE001 - whichever error: the question is whether there is one
        assert not is_taken
    else:
        assert is_taken


@given(st.from_regex(SPEC["source"]["properties"]["uri"]["pattern"], fullmatch=True))
def test_a_source_that_the_schema_takes_is_one_that_the_code_takes(uri: str) -> None:
    rule = SPEC["source"]["properties"]["uri"]["x-kubernetes-validations"][0]["rule"]
    pattern = rule.removeprefix("!self.matches('").removesuffix("')")
    is_taken = len(uri) <= 1024 and not re.search(pattern, uri) and "\n" not in uri

    try:
        parse_source_uri(uri)
    except SourceInvalid:
        assert not is_taken
    else:
        assert is_taken


@given(resources, st.booleans(), st.booleans(), uids, st.integers(0, 3), st.booleans())
def test_carrying_out_a_plan_comes_to_rest(
    mine: Resource, has_tenant: bool, is_due: bool, uid: str, generation: int, retires: bool
) -> None:
    record = None
    if mine.wanted is not None and generation:
        record = _record(mine.wanted, uid=uid, generation=generation, retires=retires)
    owner = choose_owners([mine]).get(mine.wanted.key) if mine.wanted else None
    plans = []
    for _ in range(4):
        standing = Standing(has_tenant=has_tenant, owner=owner, record=record, is_look_due=is_due)
        plans.append(plan_adapter(mine, standing))
        if mine.wanted is None or plans[-1] is Plan.REST:
            break
        if plans[-1] is Plan.LOOK:
            is_due = False
        at = mine.generation if plans[-1] is Plan.LOOK else (record.generation if record else 0)
        record = _record(mine.wanted, uid=mine.uid, generation=at, retires=mine.wanted.retires)

    assert plans[-1] is Plan.REST
    assert len(plans) == len(set(plans))


def _record(wanted: Wanted, *, uid: str, generation: int, retires: bool) -> ManagedAdapter:
    return ManagedAdapter(
        tenant=wanted.tenant, adapter=wanted.adapter, uid=uid, namespace="fleet", name="a",
        retires=retires, generation=generation, source_uri=wanted.uri, source_mark="m",
        version_id="v",
    )  # fmt: skip


@given(st.lists(resources, max_size=6), st.randoms(use_true_random=False))
def test_each_adapter_has_one_owner_whatever_the_order(found: list[Resource], random: Any) -> None:
    owners = choose_owners(found)
    shuffled = list(found)
    random.shuffle(shuffled)

    again = choose_owners(shuffled)

    assert {key: owner.uid for key, owner in owners.items()} == {
        key: owner.uid for key, owner in again.items()
    }
    for key, owner in owners.items():
        rivals = [r for r in found if r.wanted and r.wanted.key == key and not r.is_leaving]
        assert (owner.created_at, owner.uid) == min((r.created_at, r.uid) for r in rivals)


@given(facts, facts)
def test_a_status_fits_the_schema_and_says_the_same_twice(first: Facts, second: Facts) -> None:
    before = render_status(A_RESOURCE, first, before={}, now=1e9)
    after = render_status(A_RESOURCE, second, before=before, now=2e9)
    again = render_status(A_RESOURCE, second, before=after, now=3e9)

    assert diff_status(after, again) is None
    assert after.keys() <= STATUS.keys()
    assert json.loads(json.dumps(after)) == after
    for item in after["conditions"]:
        assert REASON.fullmatch(item["reason"])
        assert len(item["message"]) <= MAX_MESSAGE
        assert item["observedGeneration"] == A_RESOURCE.generation


@given(facts, facts)
def test_a_patch_leads_from_any_status_to_the_other(first: Facts, second: Facts) -> None:
    before = render_status(A_RESOURCE, first, before={}, now=1e9)
    after = render_status(A_RESOURCE, second, before=before, now=2e9)

    patch = diff_status(before, after) or {}

    merged = {name: value for name, value in {**before, **patch}.items() if value is not None}
    assert merged == after


@given(facts, facts)
def test_times_of_transitions_move_with_the_status_alone(first: Facts, second: Facts) -> None:
    before = render_status(A_RESOURCE, first, before={}, now=1e9)
    after = render_status(A_RESOURCE, second, before=before, now=2e9)

    for name in ("Accepted", "Evaluated", "Live"):
        old, new = condition_of(before, name), condition_of(after, name)
        is_same_time = old["lastTransitionTime"] == new["lastTransitionTime"]
        assert is_same_time == (old["status"] == new["status"])


@given(facts)
def test_what_is_refused_or_judged_against_always_says_why(found: Facts) -> None:
    status = render_status(A_RESOURCE, found, before={}, now=1e9)
    failure = find_failure(found)
    against = {"rejected", "failed", "inconclusive"}

    is_refused = condition_of(status, "Accepted")["status"] == "False"
    is_against = found.version is not None and found.live != 3 and status["state"] in against
    if is_refused or is_against:
        assert failure is not None
    assert (failure is None) == ("failure" not in status)
    if failure is not None:
        assert REASON.fullmatch(failure.reason)


@given(facts, facts)
def test_events_tell_changes_and_nothing_when_nothing_changed(first: Facts, second: Facts) -> None:
    before = render_status(A_RESOURCE, first, before={}, now=1e9)
    after = render_status(A_RESOURCE, second, before=before, now=2e9)

    told = tell_transition(before, after)

    assert tell_transition(after, after) == []
    assert all(REASON.fullmatch(item.reason) for item in told)
    if after.get("failure") not in (None, before.get("failure")):
        assert any(item.is_warning for item in told)
