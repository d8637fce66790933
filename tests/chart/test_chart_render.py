"""What the chart makes of its values: names, environment, times, resources, replicas."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from bench.kubelet.chart import CHART
from serving.settings import ControllerSettings, EngineSettings, KubernetesSettings
from tests.builders.helm import (
    BUCKET,
    GIVEN_SECRETS,
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
    profile_of,
    render,
    volume,
)

SEVERAL_CONTROLLERS: Json = {"controller": {"replicas": 3}, **POSTGRES, **BUCKET}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_engine_reads_the_profile_that_the_chart_renders(profile: str) -> None:
    shape = profile_of(render({}, profile))

    assert shape.cpu_slots >= 4 * shape.gpu_slots


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_our_processes_read_the_environment_that_the_chart_sets(profile: str | None) -> None:
    objects = render({}, profile)

    controller_settings = ControllerSettings.from_environment(
        plain(environment_of(container_of(controller(objects))))
    )
    engine_settings = EngineSettings.from_environment(
        plain(environment_of(container_of(engine(objects))))
    )

    in_cluster = KubernetesSettings.from_environment(
        plain(environment_of(container_of(controller(objects))))
    )

    assert in_cluster.kubernetes
    assert in_cluster.engine_statefulset == "loraplane-engine"
    assert controller_settings.fleet == engine_settings.fleet == "base"
    assert controller_settings.max_rank == profile_of(objects).max_rank
    assert controller_settings.dtype == profile_of(objects).dtype
    assert controller_settings.model == profile_of(objects).model
    assert engine_settings.controller_url == "http://loraplane-controller.default.svc:8400"
    assert engine_settings.advertise_url == (
        "http://$(LORAPLANE_ENGINE_ID).loraplane-engine.default.svc:8500"
    )


def test_every_variable_of_ours_is_a_setting() -> None:
    objects = render({"engine": {"plugin": {"mode": "initContainer"}}, **POSTGRES})
    names = {
        f"LORAPLANE_{field.name.upper()}"
        for owner in (ControllerSettings, KubernetesSettings, EngineSettings)
        for field in dataclasses.fields(owner)
    }
    of_the_job = {
        f"LORAPLANE_REFERENCE_{name}" for name in ("DEVICE", "HOST", "PORT", "SCRATCH", "TOKEN")
    }  # adapters.parity.reference_server reads these itself.

    containers = [container_of(each) for each in (controller(objects), engine(objects))]
    unknown = {
        name
        for container in containers
        for name in environment_of(container)
        if name.startswith("LORAPLANE_") and name not in names
    }
    of_the_template = {
        name for name in environment_of(container_of(job_of(objects))) if name.startswith("LORA")
    }

    assert unknown == set()
    assert of_the_template == of_the_job | {"LORAPLANE_STORE_URL"}


def test_names_are_the_release_s_with_ours_where_it_lacks_it() -> None:
    assert names_of(render(release="lora")) == {"lora-loraplane"}
    assert names_of(render(release="my-loraplane")) == {"my-loraplane"}
    assert names_of(render({"fullnameOverride": "fleet"}, release="x")) == {"fleet"}


def names_of(objects: list[Json]) -> set[str]:
    return {
        body["metadata"]["name"].removesuffix("-controller")
        for body in objects
        if body["kind"] == "Deployment"
    }


def test_the_longest_release_name_leaves_room_for_what_kubernetes_adds() -> None:
    objects = render(release="a" * 53)

    lengths = {(body["kind"], len(body["metadata"]["name"])) for body in objects}
    assert max(length for _, length in lengths) <= 63
    # A StatefulSet's pods carry its name and a hash in a label of 63 characters.
    assert max(length for kind, length in lengths if kind == "StatefulSet") <= 52


def test_no_service_can_set_our_settings() -> None:
    # A Service loraplane-controller would give every pod LORAPLANE_CONTROLLER_PORT=tcp://...
    objects = render()
    pods = [pod_of(controller(objects)), pod_of(engine(objects))]
    pods.append(job_of(objects)["spec"]["template"]["spec"])

    assert [pod["enableServiceLinks"] for pod in pods] == [False] * 3


def test_an_engine_is_given_the_gpus_of_all_its_parallel_groups() -> None:
    objects = render({"engine": {"tensorParallel": 4, "pipelineParallel": 2}})

    resources = container_of(engine(objects))["resources"]

    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == 8
    assert profile_of(objects).extra_arguments == (
        "--tensor-parallel-size=4",
        "--pipeline-parallel-size=2",
    )


def test_an_engine_on_cpus_asks_for_no_gpu() -> None:
    limits = container_of(engine(render({}, "cpu")))["resources"]["limits"]

    assert set(limits) == {"cpu", "memory"}


def test_nothing_in_flight_is_cut_off_by_a_kill() -> None:
    values = {
        "engine": {
            "drain": {"leaveSeconds": 20, "timeoutSeconds": 200},
            "profile": {"shutdown_timeout_seconds": 90},
        }
    }

    pod = pod_of(engine(render(values)))

    assert pod["terminationGracePeriodSeconds"] == 20 + 200 + 90 + 30
    environment = environment_of(pod["containers"][0])
    assert environment["LORAPLANE_LEAVE_SECONDS"] == "20"
    assert environment["LORAPLANE_DRAIN_TIMEOUT_SECONDS"] == "200"
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == [
        "python3", "-m", "serving.cli", "drain",
    ]  # fmt: skip


def test_an_engine_that_waits_for_its_proof_is_not_ready_and_not_restarted() -> None:
    container = container_of(engine(render()))

    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    startup = container["startupProbe"]
    assert startup["httpGet"]["path"] == "/health"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 3600


def test_engines_start_at_once_and_are_replaced_one_at_a_time() -> None:
    spec = engine(render({"engine": {"replicas": 3}}))["spec"]

    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "Parallel")
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}


def test_another_profile_restarts_the_engines_and_another_replica_count_does_not() -> None:
    def checksum(values: Json) -> str:
        metadata = engine(render({"secrets": GIVEN_SECRETS, **values}))["spec"]["template"]
        return str(metadata["metadata"]["annotations"])

    assert checksum({}) == checksum({"engine": {"replicas": 4}})
    assert checksum({}) != checksum({"engine": {"profile": {"gpu_slots": 4}}})


def test_generated_secrets_restart_no_pod() -> None:
    first, second = render(), render()

    assert object_named(first, "Secret", "loraplane-secrets") != (
        object_named(second, "Secret", "loraplane-secrets")
    )
    assert pod_template(first) == pod_template(second)


def pod_template(objects: list[Json]) -> list[Json]:
    return [workload["spec"]["template"] for workload in (controller(objects), engine(objects))]


def test_a_new_release_restarts_only_pods_whose_image_is_new(tmp_path: Path) -> None:
    """Two charts that differ in nothing but their version; engine and reference are pinned."""
    digest = {"image": {"digest": "sha256:" + "a" * 64}}
    values = {
        "engine": digest, "reference": digest, "secrets": GIVEN_SECRETS,
        "front": {"mode": "envoy"}, "postgresql": {"enabled": True},
    }  # fmt: skip

    before, after = (
        render(values, chart=_chart_of_version(tmp_path, version)) for version in ("7.0.0", "7.0.1")
    )

    changed = {
        body["metadata"]["name"]
        for body, later in zip(before, after, strict=True)
        if body["kind"] in ("Deployment", "StatefulSet")
        and body["spec"]["template"] != later["spec"]["template"]
    }
    assert changed == {"loraplane-controller"}
    assert job_of(before)["spec"]["template"] == job_of(after)["spec"]["template"]


def _chart_of_version(folder: Path, version: str) -> Path:
    made = shutil.copytree(CHART, folder / version)
    facts = yaml.safe_load((made / "Chart.yaml").read_text())
    facts.update(version=version, appVersion=version)
    (made / "Chart.yaml").write_text(yaml.safe_dump(facts))
    return made


def test_one_controller_with_sqlite_leaves_before_the_next_one_comes() -> None:
    spec = controller(render())["spec"]

    assert spec["strategy"] == {"type": "Recreate"}
    assert volume(controller(render()), "data")["persistentVolumeClaim"] == {
        "claimName": "loraplane-controller-data"
    }


def test_several_controllers_are_spread_and_replaced_without_a_gap() -> None:
    objects = render(SEVERAL_CONTROLLERS)
    spec = controller(objects)["spec"]

    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    spread = pod_of(controller(objects))["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    budget = object_named(objects, "PodDisruptionBudget", "loraplane-controller")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "emptyDir" in volume(controller(objects), "data")


def test_a_stock_image_gets_the_plugin_from_an_init_container() -> None:
    values = {
        "engine": {"plugin": {"mode": "initContainer"}},
        "image": {"registry": "registry.example.com/team", "mirror": "mirror.example.com"},
    }
    pod = pod_of(engine(render(values)))
    (init,) = pod["initContainers"]
    (container,) = pod["containers"]

    assert init["image"].startswith("registry.example.com/team/loraplane-plugin:")
    assert container["image"].startswith("mirror.example.com/vllm/vllm-openai:v0.32")
    folder = environment_of(container)["PYTHONPATH"]
    assert init["command"] == ["sh", "/usr/local/bin/copy-plugin", folder]
    assert {(folder, "plugin")} == {
        (mount["mountPath"], mount["name"])
        for mount in [*init["volumeMounts"], *container["volumeMounts"]]
        if mount["name"] == "plugin"
    }


def test_a_digest_wins_over_a_tag_and_makes_another_build() -> None:
    digest = "sha256:" + "a" * 64
    container = container_of(engine(render({"engine": {"image": {"tag": "9", "digest": digest}}})))

    assert container["image"] == f"loraplane-engine@{digest}"
    assert environment_of(container)["LORAPLANE_ENGINE_BUILD_LABEL"] == digest


def test_settings_of_the_values_reach_the_processes_as_written() -> None:
    values = {
        "controller": {"settings": {"max_upload_bytes": 4294967296, "gate_noise_factor": 2.5}},
        "engine": {"settings": {"trace_events": 2000000, "allow_untested_vllm": True}},
    }
    objects = render(values)

    mine = ControllerSettings.from_environment(
        plain(environment_of(container_of(controller(objects))))
    )
    theirs = EngineSettings.from_environment(plain(environment_of(container_of(engine(objects)))))

    assert (mine.max_upload_bytes, mine.gate_noise_factor) == (4294967296, 2.5)
    assert (theirs.trace_events, theirs.allow_untested_vllm) == (2_000_000, True)


def test_one_value_says_which_address_every_process_binds() -> None:
    objects = render({"bindAddress": "::", "front": {"mode": "envoy"}})
    envoy = yaml.safe_load(
        object_named(objects, "ConfigMap", "loraplane-front")["data"]["envoy.yaml"]
    )

    bound = [
        environment_of(container_of(controller(objects)))["LORAPLANE_HOST"],
        environment_of(container_of(engine(objects)))["LORAPLANE_HOST"],
        environment_of(container_of(job_of(objects)))["LORAPLANE_REFERENCE_HOST"],
        *(
            listener["address"]["socket_address"]["address"]
            for listener in envoy["static_resources"]["listeners"]
        ),
    ]
    assert bound == ["::"] * 5
