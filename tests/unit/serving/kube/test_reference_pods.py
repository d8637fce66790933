"""What is read from a Job and its pods, in every state that they come in."""

from __future__ import annotations

import copy

import pytest

from serving.kube.reference_pods import Cause, GivenUp, Over, Ready, Waiting, end_of, judge
from tests.builders.reference_job import container_status, pod_of, template_body

JOB = {**template_body(command=["serve"], port=8600), "status": {}}
JOB["metadata"] = {"name": "reference", "uid": "u1"}
READY = {
    **container_status("Running", {"running": {}}),
    "conditions": [{"type": "Ready", "status": "True"}],
    "podIP": "10.0.0.7",
}


def pod(name="reference-a", created="2026-01-01T00:00:00Z", deleted=None, **status):
    made = pod_of(JOB, name, **status)
    made["metadata"]["creationTimestamp"] = created
    if deleted:
        made["metadata"]["deletionTimestamp"] = deleted
    return made


def ended(code, reason="Error", name="reference-a", **more):
    phase = "Failed" if code else "Succeeded"
    terminated = {"exitCode": code, "reason": reason}
    return pod(name, **{**container_status(phase, {"terminated": terminated}), **more})


def job(kind=None, reason="", message="", **spec):
    made = copy.deepcopy(JOB)
    made["spec"].update(spec)
    if kind:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        made["status"] = {"conditions": [condition]}
    return made


def waiting(reason, message=""):
    return pod(**container_status("Pending", {"waiting": {"reason": reason, "message": message}}))


def test_a_ready_pod_is_where_it_says():
    assert judge(JOB, [pod(**READY)]) == Ready("reference-a", "10.0.0.7")


def test_pods_of_another_job_do_not_count():
    other = pod(**READY)
    other["metadata"]["ownerReferences"][0]["uid"] = "u2"

    assert judge(JOB, [other]) == Waiting(Cause.STARTING, "its pod is awaited")


def test_a_pod_that_is_being_deleted_is_not_asked_even_if_it_is_ready():
    leaving = pod(deleted="2026-01-01T00:01:00Z", **READY)
    newer = pod("reference-b", created="2026-01-01T00:01:00Z")

    assert judge(JOB, [leaving]).cause is Cause.ENDED
    assert judge(JOB, [newer, leaving]) == Waiting(
        Cause.STARTING, "pod reference-b is starting", "reference-b"
    )


def test_the_schedulers_words_are_passed_on():
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}

    found = judge(JOB, [pod(conditions=[{**condition, "message": message}])])

    assert found == Waiting(
        Cause.UNSCHEDULABLE, f"no node takes pod reference-a: {message}", "reference-a"
    )


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("ImagePullBackOff", Cause.IMAGE),
        ("ErrImagePull", Cause.IMAGE),
        ("InvalidImageName", Cause.IMAGE),
        ("CreateContainerConfigError", Cause.CONFIG),
        ("RunContainerError", Cause.CONFIG),
    ],
)
def test_a_container_that_cannot_start_says_why(reason, cause):
    found = judge(JOB, [waiting(reason, "secret not found")])

    assert found.cause is cause
    assert found.cause.is_stuck
    assert found.text == f"pod reference-a cannot start: {reason}: secret not found"


def test_a_container_that_is_being_made_is_starting():
    found = judge(JOB, [waiting("ContainerCreating")])

    assert found == Waiting(Cause.STARTING, "pod reference-a is starting", "reference-a")
    assert not found.cause.is_stuck


def test_a_pod_that_failed_says_its_exit_code_while_another_is_awaited():
    found = judge(JOB, [ended(137, "OOMKilled")])

    assert found.cause is Cause.ENDED
    assert found.text == (
        "pod reference-a ended with exit code 137 (OOMKilled); another pod is awaited"
    )


def test_the_newest_living_pod_counts():
    older = ended(1)
    newer = pod("reference-b", created="2026-01-01T00:05:00Z", **READY)

    assert judge(JOB, [newer, older]) == Ready("reference-b", "10.0.0.7")


def test_an_evicted_pod_says_by_whose_order():
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on memory.")

    assert end_of(evicted) == "pod reference-a failed: Evicted: The node was low on memory."


def test_a_running_pod_has_no_end_and_one_that_was_restarted_has():
    assert end_of(pod(**READY)) is None
    again = pod(**container_status("Running", {"running": {}}))
    again["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 3}}
    assert end_of(again) == "pod reference-a ended with exit code 3"


def test_a_job_that_gave_up_says_why_and_how_its_last_pod_ended():
    failed = job("Failed", "BackoffLimitExceeded", "Job has reached the limit")

    assert judge(failed, [ended(1)]) == GivenUp(
        "its Job has given up: BackoffLimitExceeded: Job has reached the limit; "
        "pod reference-a ended with exit code 1",
        "reference-a",
    )
    assert judge(job("Failed", "DeadlineExceeded"), []) == GivenUp(
        "its Job has given up: DeadlineExceeded"
    )


def test_a_job_that_ended_in_good_order_or_is_being_deleted_is_over():
    leaving = job()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert judge(job("Complete"), [ended(0, "Completed")]) == Over()
    assert judge(leaving, [pod(**READY)]) == Over()


def test_without_a_pod_the_jobs_event_or_its_suspension_says_why():
    assert judge(JOB, [], refusal="exceeded quota") == Waiting(
        Cause.REFUSED, "its pod was refused: exceeded quota"
    )
    assert judge(job(suspend=True), []).cause is Cause.SUSPENDED
