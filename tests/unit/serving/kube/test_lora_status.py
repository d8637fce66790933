"""A status says where a version stands, and in words why it does not go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.contract import EngineReport
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.fleet import ObservedEngine
from serving.kube.events import tell_transition
from serving.kube.lora_adapter import Problem, Resource
from serving.kube.lora_status import (
    Facts,
    VersionFacts,
    condition_of,
    diff_status,
    find_failure,
    render_status,
)
from serving.kube.lora_view import find_outages

ROOT = Path(__file__).parents[4]
RESOURCE = Resource(namespace="fleet", name="support", uid="u", generation=2, created_at="x")


def version(state: State, **chosen: Any) -> VersionFacts:
    values = {"id": "acme/support@3", "number": 3, "digest": "sha256:00", "state": state}
    return VersionFacts(**{**values, **chosen})


def status(facts: Facts, before: dict[str, Any] | None = None) -> dict[str, Any]:
    return render_status(RESOURCE, facts, before=before or {}, now=0.0)


def live_of(found: VersionFacts, live: int | None = None) -> tuple[str, str, str]:
    facts = Facts(is_registered=True, version=found, live=live)
    item = condition_of(status(facts), "Live")
    return item["status"], item["reason"], item["message"]


def test_before_anything_is_known_it_is_pending_and_nothing_is_wrong() -> None:
    found = status(Facts())

    assert (found["state"], found["observedGeneration"]) == ("pending", 2)
    assert [item["reason"] for item in found["conditions"]] == [
        "Reading", "NotRegistered", "NotRegistered",
    ]  # fmt: skip
    assert "failure" not in found


def test_a_new_generation_is_being_read_while_its_last_version_is_still_shown() -> None:
    facts = Facts(version=version(State.LIVE, verdict=Verdict.PASS), live=3)
    found = status(facts)

    assert condition_of(found, "Accepted")["status"] == "Unknown"
    assert (found["state"], found["live"]) == ("live", 3)


def test_a_new_generation_that_is_refused_keeps_what_is_live() -> None:
    problem = Problem("SourceForbidden", "no")
    facts = Facts(version=version(State.LIVE, verdict=Verdict.PASS), live=3, problem=problem)
    found = status(facts)

    assert found["failure"] == {"reason": "SourceForbidden", "message": "no"}
    assert (found["state"], condition_of(found, "Live")["status"]) == ("live", "True")


@pytest.mark.parametrize(
    ("found", "reason", "says"),
    [
        (version(State.VALIDATING), "Validating", "has not answered"),
        (version(State.EVALUATING), "Evaluating", "has not answered"),
        (version(State.REJECTED), "Rejected", "did not let it pass"),
        (version(State.FAILED, verdict=Verdict.FAIL), "GateFailed", "did not let it pass"),
        (version(State.PASSED, promote_mode="manual"), "AwaitingPromotion", "promote it"),
        (version(State.PASSED), "Held", "the audit says why"),
        (version(State.STAGING), "Staging", "proving"),
        (version(State.SUPERSEDED), "Superseded", "another version"),
        (version(State.RETIRED), "Retired", "retired"),
        (version(State.PASSED, error={"code": "stage_timeout", "waiting_for": ["e1"]}),
         "StageTimeout", "waited for e1"),
    ],
)  # fmt: skip
def test_what_is_not_live_says_what_it_waits_for_and_who_answers_meanwhile(
    found: VersionFacts, reason: str, says: str
) -> None:
    said = live_of(found, live=2)

    assert said[:2] == ("False", reason)
    assert says in said[2]
    assert said[2].endswith("; acme/support@2 answers")


def test_an_engine_that_cannot_load_it_is_named_also_after_the_switch_was_given_up() -> None:
    error = {
        "code": "stage_timeout",
        "failed": [{"engine": "e1", "reason": "probe_failed", "detail": None}],
    }
    found = version(State.PASSED, verdict=Verdict.PASS, error=error)

    assert live_of(found)[1:] == ("EngineCannotLoad", "engine e1 cannot load it: probe_failed")
    failure = find_failure(Facts(version=found))
    assert failure is not None
    assert failure.reason == "EngineCannotLoad"


def test_a_live_version_that_an_engine_took_out_is_live_and_says_so() -> None:
    found = version(State.LIVE, verdict=Verdict.PASS, outages=("engine e1 cannot serve it: x",))

    failure = find_failure(Facts(version=found, live=3))

    assert failure is not None
    assert failure.reason == "EngineCannotServe"
    assert live_of(found, live=3)[0] == "True"


def test_an_override_is_named_where_the_verdict_was_not_pass() -> None:
    found = version(State.LIVE, verdict=Verdict.FAIL, override="ann: known case", reasons=("r",))
    facts = Facts(is_registered=True, version=found, live=3)

    assert condition_of(status(facts), "Evaluated")["reason"] == "GateFailed"
    assert "promoted without PASS by ann: known case" in live_of(found, live=3)[2]
    assert find_failure(facts) is None


def test_a_step_that_cannot_go_on_is_a_failure_and_one_that_waits_is_none() -> None:
    waits = version(State.EVALUATING, error={"code": "waiting_for_engine"})
    stuck = version(State.EVALUATING, error={"code": "digest_mismatch", "terminal": True})

    said = condition_of(status(Facts(version=waits)), "Evaluated")
    failure = find_failure(Facts(version=stuck))

    assert find_failure(Facts(version=waits)) is None
    assert said["message"].endswith("put off: waiting_for_engine")
    assert failure is not None
    assert failure == Problem("StepFailed", "digest_mismatch")


def test_findings_beyond_the_first_are_counted() -> None:
    findings = tuple(
        {"code": f"c{n}", "severity": "blocking", "meaning": "m.", "fix": "f."} for n in range(12)
    )

    failure = find_failure(Facts(version=version(State.REJECTED, findings=findings)))

    assert failure is not None
    assert failure.message.endswith("and 4 more findings")


def test_the_time_of_a_transition_stays_while_the_status_does() -> None:
    first = render_status(RESOURCE, Facts(), before={}, now=0.0)
    facts = Facts(is_registered=True, version=version(State.VALIDATING))
    second = render_status(RESOURCE, facts, before=first, now=60.0)

    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times == {
        "Accepted": "1970-01-01T00:01:00Z",
        "Evaluated": "1970-01-01T00:00:00Z",
        "Live": "1970-01-01T00:00:00Z",
    }


def test_a_patch_takes_away_what_is_no_longer_so() -> None:
    before = status(Facts(problem=Problem("Conflict", "x")))
    after = status(Facts(), before)

    patch = diff_status(before, after)

    assert patch is not None
    assert patch["failure"] is None
    assert "observedGeneration" not in patch


def test_a_life_is_told_as_events_each_once() -> None:
    states = [State.VALIDATING, State.EVALUATING, State.PASSED, State.STAGING, State.LIVE]
    told, before = [], status(Facts())
    for state in states:
        live = 3 if state is State.LIVE else None
        after = status(Facts(is_registered=True, version=version(state), live=live), before)
        told += [item.reason for item in tell_transition(before, after)]
        before = after

    assert told == ["Registered", "Evaluating", "Passed", "Staging", "Live"]


def test_outages_are_those_that_reachable_engines_report() -> None:
    def engine(name: str, state: str, seen: float) -> ObservedEngine:
        item = {"name": "acme/support@3", "digest": "d", "state": state, "reason": "nan"}
        body = {
            "engine_id": name, "url": "u", "build": "b", "dtype": "float32", "revision": 1,
            "is_ready": True, "started_at": 1.0, "gpu_slots": 1, "cpu_slots": 1, "max_rank": 8,
            "max_model_len": 64, "versions": [item],
        }  # fmt: skip
        return ObservedEngine(msgspec.convert(body, EngineReport), seen)

    engines = [
        engine("e0", "proven", 100), engine("e1", "quarantined", 100), engine("e2", "failed", 1),
    ]  # fmt: skip

    assert find_outages(engines, 101, 15) == {"acme/support@3": ("engine e1 cannot serve it: nan",)}


def test_the_page_explains_every_reason_that_the_code_can_give() -> None:
    page = (ROOT / "docs" / "lora-adapter.md").read_text()
    pattern = re.compile(
        r'(?:Problem|_Refused|_Condition|Happening)\(\s*(?:"(?:True|False|Unknown)", )?"([A-Z]\w+)"'
        r'|: "([A-Z][a-z]+(?:[A-Z][a-z]+)*)",$|return "([A-Z]\w+)", |\("([A-Z]\w+)", "',
        re.MULTILINE,
    )
    named = {
        name
        for path in (ROOT / "serving" / "kube").glob("lora_*.py")
        for match in pattern.findall(path.read_text())
        for name in match
        if name and name not in {"Secret", "ConfigMap", "True", "False", "Unknown"}
    }
    named |= {"SecretNotFound", "SecretForbidden", "ConfigMapNotFound", "ConfigMapForbidden"}

    assert len(named) > 30
    assert {name for name in named if f"`{name}`" not in page} == set()
