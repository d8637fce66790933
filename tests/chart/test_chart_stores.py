"""Where what must not be lost or told lies: secrets, registry, artifacts, the base model."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.adapter_places import s3_bucket, s3_server
from tests.builders.helm import (
    BUCKET,
    POSTGRES,
    Json,
    container_of,
    controller,
    engine,
    environment_of,
    job_of,
    object_named,
    plain,
    profile_of,
    render,
    volume,
)


def test_secrets_are_read_from_the_secret_that_is_named() -> None:
    objects = render({"secrets": {"existingSecret": "mine"}, **POSTGRES})
    environment = environment_of(container_of(controller(objects)))

    assert [body for body in objects if body["kind"] == "Secret"] == []
    assert environment["LORAPLANE_ADMIN_TOKEN"]["secretKeyRef"]["name"] == "mine"
    assert environment["LORAPLANE_DATABASE_URL"]["secretKeyRef"] == {
        "name": "registry",
        "key": "database-url",
    }


def test_a_registry_s_url_in_the_values_stands_in_the_secret_alone() -> None:
    url = "postgresql+asyncpg://u:very-secret@db/lora"
    objects = render({"database": {"url": url}, "secrets": {"existingSecret": "mine"}})

    holders = [body["kind"] for body in objects if "very-secret" in str(decoded(body))]

    assert holders == ["Secret"]
    assert list(object_named(objects, "Secret", "loraplane-secrets")["data"]) == ["database-url"]


def decoded(body: Json) -> Json:
    if body["kind"] != "Secret":
        return body
    return {**body, "data": {k: base64.b64decode(v).decode() for k, v in body["data"].items()}}


def test_object_storage_s_credentials_reach_engines_read_only() -> None:
    values = {**BUCKET, **POSTGRES}
    values["store"] = {**BUCKET["store"], "readerSecret": "reader", "s3": {"region": "eu-1"}}
    objects = render(values)

    def key_of(container: Json) -> tuple[str, str]:
        environment = environment_of(container)
        return (
            environment["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"],
            environment["AWS_REGION"],
        )

    assert key_of(container_of(controller(objects))) == ("bucket", "eu-1")
    assert key_of(container_of(engine(objects))) == ("reader", "eu-1")
    assert key_of(container_of(job_of(objects))) == ("reader", "eu-1")
    claims = [body for body in objects if body["kind"] == "PersistentVolumeClaim"]
    assert [claim["metadata"]["name"] for claim in claims] == ["loraplane-model-cache"]


def test_only_the_controller_writes_to_a_shared_volume() -> None:
    objects = render()

    def store_mount(container: Json) -> Json:
        (mount,) = [item for item in container["volumeMounts"] if item["name"] == "store"]
        return dict(mount)

    assert "readOnly" not in store_mount(container_of(controller(objects)))
    assert store_mount(container_of(engine(objects)))["readOnly"] is True
    assert store_mount(container_of(job_of(objects)))["readOnly"] is True


@pytest.mark.parametrize(
    ("model", "wanted", "volume_kind"),
    [
        ({"source": "hub", "id": "a/b"}, "a/b", "persistentVolumeClaim"),
        (
            {"source": "hub", "id": "a/b", "cache": {"type": "hostPath", "hostPath": "/srv/hub"}},
            "a/b",
            "hostPath",
        ),
        ({"source": "hub", "id": "a/b", "cache": {"type": "emptyDir"}}, "a/b", "emptyDir"),
        (
            {"source": "pvc", "pvc": {"claimName": "weights"}, "path": "llama"},
            "/models/llama",
            "persistentVolumeClaim",
        ),
        ({"source": "hostPath", "hostPath": {"path": "/srv/llama"}}, "/models", "hostPath"),
        ({"source": "image", "image": {"reference": "r/llama:1"}}, "/models", "image"),
    ],
)  # fmt: skip
def test_the_base_model_comes_from_where_the_values_say(
    model: Json, wanted: str, volume_kind: str
) -> None:
    objects = render({"model": model})

    assert profile_of(objects).model == wanted
    for workload in (controller(objects), engine(objects), job_of(objects)):
        assert volume_kind in volume(workload, "model")


def test_an_engine_s_own_claims_go_with_it() -> None:
    values = {
        "model": {"cache": {"type": "perEngine", "size": "60Gi"}},
        "engine": {"persistence": {"enabled": True}},
    }
    spec = engine(render(values))["spec"]

    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == [
        "model", "state",
    ]  # fmt: skip
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Delete",
        "whenScaled": "Delete",
    }


_KEEP_AND_FETCH = """
import asyncio, os, pathlib
from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore

async def main(folder, copies):
    store = ArtifactStore.from_url(os.environ["LORAPLANE_STORE_URL"])
    digest = await store.put(manifest_of_folder(folder), folder)
    print((await store.fetch(digest, copies) / "adapter_config.json").read_text())

asyncio.run(main(pathlib.Path("adapter"), pathlib.Path("copies")))
"""


def test_a_store_opens_with_the_variables_that_a_pod_gets(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "copies").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).write_text("these bytes")
    with s3_server() as endpoint:
        bucket = s3_bucket(endpoint)
        values = {"type": "s3", "url": f"s3://{bucket.name}/fleet", "existingSecret": "bucket"}
        s3 = {"endpoint": endpoint, "region": "us-east-1"}
        pod = environment_of(container_of(controller(render({"store": {**values, "s3": s3}}))))
        from_secret = {
            name: bucket.credentials[value["secretKeyRef"]["key"]]
            for name, value in pod.items()
            if isinstance(value, dict) and value.get("secretKeyRef", {}).get("name") == "bucket"
        }

        done = subprocess.run(
            [sys.executable, "-c", _KEEP_AND_FETCH],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path.cwd()), **store_variables(plain(pod)), **from_secret},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.stdout == "these bytes\n", done.stderr


def store_variables(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("AWS_") or name == "LORAPLANE_STORE_URL"
    }
