"""What the chart chooses by itself, and whether clusters as they are can run it."""

from __future__ import annotations

import pytest

from serving.settings import ControllerSettings
from tests.builders.helm import (
    BUCKET,
    POSTGRES,
    PROFILES,
    Json,
    container_of,
    controller,
    engine,
    environment_of,
    job_of,
    object_named,
    plain,
    pod_of,
    refusal,
    render,
    volume,
)

ONE_NODE: Json = {
    "store": {"pvc": {"accessModes": ["ReadWriteOnce"]}},
    "model": {"cache": {"accessModes": ["ReadWriteOnce"]}},
}
PROCESS: Json = {"reference": {"runner": "process"}}
WITHOUT_GPU: Json = {"reference": {"runner": "process", "gpu": {"count": 0}}}


def upgrade_of(values: Json, profile: str | None = None) -> str:
    environment = environment_of(container_of(controller(render(values, profile))))
    return str(environment["LORAPLANE_UPGRADE"])


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ({}, "probe"),
        ({"engine": {"replicas": 2}}, "gate"),
        ({"autoscaling": {"enabled": True, "minReplicas": 2}}, "gate"),
        # It may be at one engine when the upgrade comes.
        ({"engine": {"replicas": 3}, "autoscaling": {"enabled": True, "minReplicas": 1}}, "probe"),
        ({"upgrade": "gate"}, "gate"),
        ({"upgrade": "probe", "engine": {"replicas": 2}}, "probe"),
    ],
)
def test_upgrades_wait_for_the_gate_where_another_engine_serves_meanwhile(
    values: Json, chosen: str
) -> None:
    assert upgrade_of(values) == chosen


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_with_one_engine_is_not_out_for_a_gate(profile: str) -> None:
    assert upgrade_of({}, profile) == "probe"


def device_of(values: Json) -> str:
    return str(environment_of(container_of(job_of(render(values))))["LORAPLANE_REFERENCE_DEVICE"])


def test_a_reference_that_was_given_gpus_never_computes_on_cpus_instead() -> None:
    of_process = environment_of(container_of(controller(render(PROCESS))))

    assert device_of({}) == "cuda"
    assert of_process["LORAPLANE_REFERENCE_DEVICE"] == "cuda"
    assert device_of({"reference": {"gpu": {"count": 0}}}) == "auto"
    assert device_of({"reference": {"gpu": {"count": 0}, "device": "cpu"}}) == "cpu"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_asks_for_no_label_that_only_an_addition_to_the_cluster_gives(
    profile: str,
) -> None:
    objects = render({}, profile)
    workloads = [body for body in objects if body["kind"] in ("Deployment", "StatefulSet")]
    if profile != "cpu":
        workloads.append(job_of(objects))

    assert [pod_of(workload).get("nodeSelector") for workload in workloads] == (
        [None] * len(workloads)
    )


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_a_job_may_live_for_several_evaluations(profile: str | None) -> None:
    objects = render({"reference": {"runner": "job"}}, profile)
    environment = plain(environment_of(container_of(controller(objects))))
    timeout = ControllerSettings.from_environment(environment).gate_timeout_seconds

    assert job_of(objects)["spec"]["activeDeadlineSeconds"] >= 4 * timeout


def test_the_deadline_is_compared_with_the_gates_own_default() -> None:
    timeout = int(ControllerSettings().gate_timeout_seconds)

    assert job_of(render({"reference": {"activeDeadlineSeconds": 4 * timeout}}))
    assert str(4 * timeout) in refusal({"reference": {"activeDeadlineSeconds": 4 * timeout - 1}})


def test_a_job_that_would_end_before_its_evaluations_is_refused() -> None:
    message = refusal(
        {
            "controller": {"settings": {"gate_timeout_seconds": 36000}},
            "reference": {"activeDeadlineSeconds": 43200},
        }
    )

    assert "reference.activeDeadlineSeconds is 43200" in message
    assert "144000" in message


def test_a_job_without_a_deadline_has_none() -> None:
    values = {
        "controller": {"settings": {"gate_timeout_seconds": 36000}},
        "reference": {"activeDeadlineSeconds": 0},
    }

    assert "activeDeadlineSeconds" not in job_of(render(values))["spec"]


@pytest.mark.parametrize(
    ("values", "rolling"),
    [
        # A new pod would wait for the GPU that the old one has.
        (PROCESS, {"maxUnavailable": 1, "maxSurge": 0}),
        (WITHOUT_GPU, {"maxUnavailable": 0, "maxSurge": 1}),
        ({}, {"maxUnavailable": 0, "maxSurge": 1}),
    ],
)
def test_controllers_that_hold_a_gpu_are_replaced_without_a_spare_one(
    values: Json, rolling: Json
) -> None:
    spec = controller(render({**values, **POSTGRES, **BUCKET}))["spec"]

    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}


def near(workload: Json) -> list[set[str]]:
    """The components of the release of which one must be on a node before this pod may be there."""
    found = pod_of(workload).get("affinity", {}).get("podAffinity", {})
    terms = found.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    for term in terms:
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"] == {
            "app.kubernetes.io/name": "loraplane",
            "app.kubernetes.io/instance": "loraplane",
        }
    expressions = [one for term in terms for one in term["labelSelector"]["matchExpressions"]]
    for one in expressions:
        assert (one["key"], one["operator"]) == ("app.kubernetes.io/component", "In")
    return [set(one["values"]) for one in expressions]


@pytest.mark.parametrize("part", ["store", "model"])
def test_pods_that_share_a_claim_of_one_node_are_put_on_one_node(part: str) -> None:
    objects = render({part: ONE_NODE[part], "front": {"mode": "envoy"}})
    others = [controller(objects), job_of(objects)]

    # The first engine finds nobody and may go anywhere, so it goes where a GPU is.
    assert near(engine(objects)) == [{"engine", "controller", "reference"}]
    # The others, which could run anywhere, come after it, past what keeps others from GPU nodes.
    assert [near(other) for other in others] == [[{"engine"}], [{"engine"}]]
    for other in others:
        assert pod_of(other)["tolerations"] == pod_of(engine(objects))["tolerations"]
    # Fronts share no claim, and are spread.
    assert near(object_named(objects, "Deployment", "loraplane-front")) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"store": {"pvc": {"accessModes": ["ReadWriteOnce"], "existingClaim": "mine"}}},
        {"model": {"cache": {"accessModes": ["ReadWriteOnce"], "type": "perEngine"}}},
        {"store": {**BUCKET["store"], "pvc": {"accessModes": ["ReadWriteOnce"]}}},
    ],
)
def test_pods_that_share_no_such_claim_may_be_anywhere(values: Json) -> None:
    objects = render(values)

    assert [near(each) for each in (controller(objects), engine(objects), job_of(objects))] == (
        [[]] * 3
    )


def test_who_names_an_affinity_decides_alone() -> None:
    mine = {"podAntiAffinity": {}}
    objects = render({**ONE_NODE, "controller": {"affinity": mine}})

    assert pod_of(controller(objects))["affinity"] == mine
    assert near(engine(objects)) != []


def test_without_engines_the_controller_waits_for_none() -> None:
    objects = render({**ONE_NODE, "engine": {"replicas": 0}})

    assert near(controller(objects)) == [{"engine", "controller", "reference"}]


def test_helm_test_runs_in_the_image_that_the_controller_runs() -> None:
    for values in ({}, PROCESS):
        objects = render(values)
        (pod,) = [
            body for body in objects if "helm.sh/hook" in body["metadata"].get("annotations", {})
        ]
        (container,) = pod["spec"]["containers"]

        assert container["image"] == container_of(controller(objects))["image"]


def test_no_folder_is_made_on_a_node_that_only_root_could_write() -> None:
    objects = render({"model": {"cache": {"type": "hostPath", "hostPath": "/srv/hub"}}})

    for workload in (controller(objects), engine(objects), job_of(objects)):
        assert volume(workload, "model")["hostPath"] == {"path": "/srv/hub", "type": "Directory"}
