"""The Job that is made from a template, and what is refused as one."""

from __future__ import annotations

import copy

import pytest
import yaml

from serving.kube.reference_template import ReferenceTemplate, ReferenceTemplateInvalid
from tests.builders.reference_job import template_body
from tests.builders.reference_servers import TOKEN

BODY = template_body(command=["serve"], port=8600)
OWNER = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "acme-engine", "uid": "u1"},
}


def parsed(body=BODY, token=TOKEN):
    return ReferenceTemplate.parse(yaml.safe_dump(body), token=token)


def changed(**container):
    body = copy.deepcopy(BODY)
    body["spec"]["template"]["spec"]["containers"][0].update(container)
    return body


def test_a_job_keeps_all_that_the_template_says():
    job = parsed().job(owner=None)

    for name in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        assert job["spec"][name] == BODY["spec"][name]
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert {**container, "readinessProbe": None} == {
        **BODY["spec"]["template"]["spec"]["containers"][0],
        "readinessProbe": None,
    }
    assert "ownerReferences" not in job["metadata"]


def test_job_and_pods_are_found_by_labels_of_their_own():
    template = parsed()
    job = template.job(owner=None)

    wanted = dict(part.split("=") for part in template.selector.split(","))
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert wanted.items() <= labels.items()
        assert labels["app.kubernetes.io/component"] == "reference"
    assert template.family_selector == "loraplane.dev/reference=acme-reference"


def test_the_template_itself_is_left_as_it_was():
    template = parsed()
    before = copy.deepcopy(template.body)

    template.job(owner=OWNER)

    assert template.body == before


def test_the_name_is_the_same_after_a_restart_and_another_for_another_template_or_token():
    names = {
        parsed().name,
        parsed(changed(image="example.test/evaluator:2")).name,
        parsed(token="another").name,
    }

    assert parsed().name in names
    assert len(names) == 3
    assert all(name.startswith("acme-reference-") for name in names)


def test_the_order_of_keys_does_not_make_another_job():
    text = yaml.safe_dump(dict(reversed(BODY.items())), sort_keys=False)

    assert ReferenceTemplate.parse(text, token=TOKEN).name == parsed().name


def test_a_long_name_is_cut_so_that_pods_can_carry_it():
    body = {**BODY, "metadata": {"name": "a" * 39 + "-and-more"}}

    name = parsed(body).name

    assert len(name) <= 63 - len("-abcde")
    assert "--" not in name


def test_the_owner_takes_it_along_but_does_not_wait_for_it():
    (reference,) = parsed().job(owner=OWNER)["metadata"]["ownerReferences"]

    assert reference == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "acme-engine",
        "uid": "u1",
        "blockOwnerDeletion": False,
    }


def test_it_is_ready_when_its_port_is_open_unless_the_template_says_otherwise():
    def probe(body):
        job = parsed(body).job(owner=None)
        return job["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]

    own = {"exec": {"command": ["true"]}}
    assert probe(changed(ports=[{"name": "reference", "containerPort": 9000}]))["tcpSocket"] == {
        "port": 9000
    }
    assert probe(changed(ports=[]))["tcpSocket"] == {"port": 8600}
    assert probe(changed(readinessProbe=own)) == own


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "no YAML"),
        ("", "no Job"),
        ("[]", "no Job"),
        ("{apiVersion: v1, kind: Pod}", "no Job"),
        ("{apiVersion: batch/v1, kind: Job}", "no container `reference`"),
        ("{apiVersion: batch/v1, kind: Job, metadata: 3, spec: {}}", "no container"),
        (yaml.safe_dump(changed(name="other")), "no container `reference`"),
    ],
)
def test_what_is_no_job_with_a_reference_is_refused(text, why):
    with pytest.raises(ReferenceTemplateInvalid, match=why):
        ReferenceTemplate.parse(text, token=TOKEN)
