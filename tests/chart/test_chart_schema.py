"""What the chart refuses, and whether a person learns from it which value is wrong and why."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bench.helm_values.__main__ import CHART, PAGE, page, schema
from bench.helm_values.comments import described_values, undescribed_leaves
from bench.helm_values.settings_schema import CHART_SETS_ON_CONTROLLER, CHART_SETS_ON_ENGINE
from serving.engine.profile import EngineProfile
from serving.settings import ControllerSettings, EngineSettings
from tests.builders.helm import PROFILES, HelmRefused, Json, helm, refusal, render_text

WRONG_TYPES_AND_NAMES: list[tuple[str, Any, str]] = [
    ("engine.replicas", "two", "at '/engine/replicas': got string, want integer"),
    ("engine.replica", 2, "at '/engine': additional properties 'replica' not allowed"),
    ("engines", {}, "additional properties 'engines' not allowed"),
    ("engine.replicas", -1, "at '/engine/replicas': minimum"),
    ("controller.replicas", 0, "at '/controller/replicas': minimum"),
    ("engine.tensorParallel", 0, "at '/engine/tensorParallel': minimum"),
    ("upgrade", "yolo", "at '/upgrade': value must be one of 'auto', 'gate', 'probe'"),
    ("model.source", "s3", "at '/model/source': value must be one of"),
    ("store.type", "nfs", "at '/store/type': value must be one of 'pvc', 's3', 'gcs', 'azure'"),
    ("store.url", "https://bucket", "at '/store/url'"),
    ("database.url", "mysql://db", "at '/database/url'"),
    ("engine.shm.sizeLimit", "8 GB", "at '/engine/shm/sizeLimit'"),
    (
        "engine.resources.limits",
        {"memory": None},
        "at '/engine/resources/limits': missing property 'memory'",
    ),
    ("engine.image.digest", "sha256:abc", "at '/engine/image/digest'"),
    ("engine.image.tag", 1.0, "at '/engine/image/tag': got number, want string"),
    ("engine.profile.gpu_slot", 8, "additional properties 'gpu_slot' not allowed"),
    ("engine.profile.model", "a/b", "additional properties 'model' not allowed"),
    ("engine.profile.max_rank", 17, "at '/engine/profile/max_rank': value must be one of"),
    ("engine.profile.dtype", "int8", "at '/engine/profile/dtype': value must be one of"),
    ("engine.profile.gpu_slots", 0, "at '/engine/profile/gpu_slots': minimum"),
    (
        "engine.profile.extra_arguments",
        ["--api-key=x"],
        "at '/engine/profile/extra_arguments/0': '--api-key=x' does not match pattern",
    ),
    ("engine.settings.trace_event", 1, "additional properties 'trace_event' not allowed"),
    ("engine.settings.cluster_secret", "x", "additional properties 'cluster_secret' not allowed"),
    ("controller.settings.admin_token", "x", "additional properties 'admin_token' not allowed"),
    ("controller.settings.gate_repeats", "3", "at '/controller/settings/gate_repeats'"),
    ("controller.extraEnv", [{"value": "x"}], "missing property 'name'"),
    ("secrets.clusterSecret", "short", "at '/secrets/clusterSecret'"),
    ("engine.tolerations", [{"effect": "NoRun"}], "at '/engine/tolerations/0/effect'"),
    ("engine.updateStrategy", {"type": "Recreate"}, "at '/engine/updateStrategy/type'"),
    ("engine.probes.startup.path", "/healthz", "at '/engine/probes/startup/path'"),
    ("image.pullPolicy", "Sometimes", "at '/image/pullPolicy'"),
    ("podSecurity.runAsUser", 0, "at '/podSecurity/runAsUser': minimum"),
    ("fullnameOverride", "My_Fleet", "at '/fullnameOverride'"),
    ("loraAdapters.secrets.access", "some", "at '/loraAdapters/secrets/access'"),
]

CONTRADICTIONS: list[tuple[Json, tuple[str, ...]]] = [
    (
        {"controller.replicas": 2},
        ("controller.replicas is 2", "SQLite", "set database.existingSecret.name"),
    ),
    (
        {
            "controller.replicas": 2,
            "database.existingSecret.name": "db",
            "store.pvc.accessModes": ["ReadWriteOnce"],
        },
        ("store.pvc.accessModes is ReadWriteOnce", "ReadWriteMany"),
    ),
    (
        {"engine.profile.gpu_slots": 32},
        ("engine.profile.cpu_slots is 64", "4 x engine.profile.gpu_slots", "128"),
    ),
    ({"secrets.existingSecret": "s", "secrets.adminToken": "t" * 20}, ("in two ways",)),
    (
        {"secrets.existingSecret": "loraplane-secrets"},
        ("the name of the Secret that the chart makes",),
    ),
    (
        {"database.url": "postgresql+asyncpg://u:p@h/d", "database.existingSecret.name": "s"},
        ("database.url and database.existingSecret.name", "two ways"),
    ),
    (
        {"postgresql.enabled": True, "database.existingSecret.name": "s"},
        ("postgresql.enabled", "nobody would use"),
    ),
    ({"store.type": "s3"}, ("store.url must begin with s3://",)),
    ({"store.type": "gcs", "store.url": "s3://b"}, ("store.url must begin with gs://",)),
    ({"store.existingSecret": "s"}, ("store.type is pvc", "neither URL nor credentials")),
    ({"model.source": "pvc"}, ("set model.pvc.claimName",)),
    ({"model.source": "hostPath"}, ("set model.hostPath.path",)),
    ({"model.id": ""}, ("set model.id",)),
    ({"model.path": "../etc"}, ('without ".."',)),
    (
        {"model.hub.offline": True, "model.cache.type": "emptyDir"},
        ("model.hub.offline is true", "begins empty"),
    ),
    (
        {"engine.profile.extra_arguments": ["--tensor-parallel-size=2"]},
        ("set engine.tensorParallel instead",),
    ),
    ({"engine.profile.kv_cache_gib": 4}, ("engine.profile.kv_cache_gib is for engines on CPUs",)),
    ({"reference.device": "cpu"}, ("reference.gpu.count is 1", "never uses")),
    (
        {"reference.device": "cuda", "reference.gpu.count": 0},
        ("reference.device is cuda, and reference.gpu.count is 0",),
    ),
    ({"loraAdapters.secrets.access": "names"}, ("list them in loraAdapters.secrets.names",)),
    ({"engine.image.tag": "latest"}, ("engine.image.tag is latest",)),
    (
        {"engine.extraEnv": [{"name": "LORAPLANE_PROFILE", "value": "/x"}]},
        ("engine.extraEnv has LORAPLANE_PROFILE, which the chart sets",),
    ),
]


def nested(flat: Json) -> Json:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    tree: Json = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        place = tree
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return tree


@pytest.mark.parametrize(("path", "value", "said"), WRONG_TYPES_AND_NAMES)
def test_a_wrong_value_is_refused_by_its_name(path: str, value: Any, said: str) -> None:
    assert said in refusal(nested({path: value}))


@pytest.mark.parametrize(("values", "said"), CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_with_what_to_set(
    values: Json, said: tuple[str, ...]
) -> None:
    message = refusal(nested(values))

    assert "these values cannot be used together" in message
    assert [words for words in said if words not in message] == []


def test_all_contradictions_are_told_at_once() -> None:
    message = refusal(nested({"controller.replicas": 2, "model.source": "pvc"}))

    assert "SQLite" in message
    assert "model.pvc.claimName" in message


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_helm_finds_nothing_to_complain_of(profile: str | None) -> None:
    values = [] if profile is None else ["--values", str(CHART / "profiles" / f"{profile}.yaml")]

    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), *values)


def test_a_profile_takes_what_the_engine_takes_and_nothing_else() -> None:
    definition = json.loads((CHART / "values.schema.json").read_text())["$defs"]["engineProfile"]

    fields = {field.name for field in dataclasses.fields(EngineProfile)}
    assert set(definition["properties"]) == fields - {"model"}


def test_what_the_chart_sets_itself_are_settings() -> None:
    def names(owner: type) -> set[str]:
        return {field.name for field in dataclasses.fields(owner)}

    assert names(ControllerSettings) >= CHART_SETS_ON_CONTROLLER
    assert names(EngineSettings) >= CHART_SETS_ON_ENGINE


def test_the_page_of_values_and_the_settings_in_the_schema_are_of_today() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
    assert (CHART / "values.schema.json").read_text() == schema(), "run `make docs`"


def test_every_value_is_explained() -> None:
    source = (CHART / "values.yaml").read_text()

    assert undescribed_leaves(source) == []
    assert [value.path for value in described_values(source) if not value.text.endswith(".")] == []


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with pytest.raises(HelmRefused, match=r"1\.30"):
        render_text(options=["--kube-version", "1.29.0"])
