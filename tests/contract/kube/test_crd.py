"""The LoraAdapter definition, asked of a real API server: what it takes, refuses and fills in."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.identity import RESERVED_NAMES
from serving.kube.cluster import LORA_ADAPTERS, Cluster
from serving.kube.errors import KubeInvalid
from serving.kube.lora_adapter import parse_resource
from tests.builders.api_server import ApiServer, find_assets
from tests.builders.kube_worlds import KubeWorld, envtest_world
from tests.builders.lora_world import CRD_FILE, define_lora_adapters, lora_body

PAGE = Path(__file__).parents[3] / "docs" / "lora-adapter.md"
URI = "s3://acme-models/support/v3"


@pytest.fixture
async def kube(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeWorld]:
    """A real server alone: a fake one knows no schemas."""
    namespace = f"test-{uuid.uuid4().hex[:10]}"
    async with envtest_world(api_server, tmp_path, namespace) as world:
        await define_lora_adapters(world)
        yield world


async def kubectl(kube: KubeWorld, *arguments: str, text: str | None = None) -> tuple[int, str]:
    """(exit status, all that it wrote) of the real client."""
    assets = find_assets()
    assert assets is not None
    own = {"KUBECONFIG": str(kube.direct_kubeconfig), "HOME": str(kube.kubeconfig.parent)}
    process = await asyncio.create_subprocess_exec(
        str(assets / "kubectl"), f"--namespace={kube.namespace}", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, **own},
    )  # fmt: skip
    said, _ = await process.communicate(None if text is None else text.encode())
    return process.returncode or 0, said.decode()


def examples() -> list[str]:
    """The manifests of the page."""
    return [
        block
        for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "kind: LoraAdapter" in block
    ]


async def test_what_is_left_out_has_the_documented_defaults(cluster: Cluster) -> None:
    made = await cluster.create(LORA_ADAPTERS, lora_body("support", URI))

    assert (made["spec"]["promote"], made["spec"]["deletionPolicy"]) == ("auto", "Retain")


async def test_the_pages_examples_can_be_applied_and_are_what_the_controller_reads(
    kube: KubeWorld, cluster: Cluster
) -> None:
    manifests = await asyncio.to_thread(examples)
    assert manifests

    for manifest in manifests:
        status, said = await kubectl(kube, "apply", "--validate=strict", "-f", "-", text=manifest)
        assert status == 0, said

    found = await cluster.list(LORA_ADAPTERS)
    assert len(found.items) >= 2
    assert all(parse_resource(item).wanted is not None for item in found.items)


async def test_kubectl_shows_tenant_adapter_version_state_and_verdict(
    kube: KubeWorld, cluster: Cluster
) -> None:
    await cluster.create(LORA_ADAPTERS, lora_body("support", URI))
    status = {"version": 3, "state": "live", "verdict": "PASS"}
    await cluster.patch_status(LORA_ADAPTERS, "support", status)

    _, shown = await kubectl(kube, "get", "lora")

    head, row = shown.splitlines()
    assert head.split() == ["NAME", "TENANT", "ADAPTER", "VERSION", "STATE", "VERDICT", "AGE"]
    assert row.split()[:6] == ["support", "acme", "support", "3", "live", "PASS"]


async def test_tenant_and_adapter_cannot_be_changed_and_all_else_can(cluster: Cluster) -> None:
    await cluster.create(LORA_ADAPTERS, lora_body("support", URI))

    for field in ("tenant", "adapter"):
        with pytest.raises(KubeInvalid, match="cannot be changed"):
            await cluster.patch(LORA_ADAPTERS, "support", {"spec": {field: "globex"}})
    changed = await cluster.patch(
        LORA_ADAPTERS,
        "support",
        {"spec": {"source": {"uri": "gs://other/x"}, "promote": "manual"}},
    )

    assert changed["spec"]["source"]["uri"] == "gs://other/x"
    assert changed["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "uri",
    [
        "http://host/x", "s3:///x", "s3://B/x", "file:///", "file:////etc", "file://host/x",
        "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/./a", "s3://bucket/a/..",
        "s3://bucket/a?versionId=1", "s3://bucket/a%2e", "file:///srv/../etc", "support", "",
        "s3://bucket/" + "a" * 1024,
    ],
)  # fmt: skip
async def test_sources_that_the_controller_would_refuse_are_refused(
    cluster: Cluster, uri: str
) -> None:
    with pytest.raises(KubeInvalid):
        await cluster.create(LORA_ADAPTERS, lora_body("support", uri))


@pytest.mark.parametrize(
    "uri",
    [
        "s3://acme/x", "gs://acme/a/b.tar.gz", "az://models/run=7", "file:///srv/a", "s3://acme",
        "s3://acme/a..b/x", "s3://acme/x/",
    ],
)  # fmt: skip
async def test_sources_that_the_controller_reads_are_taken(cluster: Cluster, uri: str) -> None:
    made = await cluster.create(LORA_ADAPTERS, lora_body("support", uri))

    assert parse_resource(made).wanted is not None


@pytest.mark.parametrize("field", ["tenant", "adapter"])
@pytest.mark.parametrize("name", ["Acme", "-a", "a-", "a..b", "a/b", "a" * 64, "", "base", "gate"])
async def test_names_that_the_controller_would_refuse_are_refused(
    cluster: Cluster, field: str, name: str
) -> None:
    with pytest.raises(KubeInvalid):
        await cluster.create(LORA_ADAPTERS, lora_body("support", URI, **{field: name}))


@pytest.mark.parametrize(
    "spec",
    [
        {"promote": "yes"},
        {"deletionPolicy": "Delete"},
        {"suite": {}},
        {"suite": {"name": "refunds", "configMapRef": {"name": "x"}}},
        {"source": {"uri": "file:///srv/a", "secretRef": {"name": "x"}}},
        {"source": {"uri": URI, "secretRef": {}}},
        {"source": {}},
    ],
)
async def test_other_forms_are_refused(cluster: Cluster, spec: dict[str, Any]) -> None:
    with pytest.raises(KubeInvalid):
        await cluster.create(LORA_ADAPTERS, lora_body("support", URI, **spec))


async def test_a_misspelt_field_is_named_to_whoever_applies_it(kube: KubeWorld) -> None:
    body = {
        "apiVersion": "loraplane.dev/v1alpha1",
        "kind": "LoraAdapter",
        **lora_body("support", URI, promotion="manual"),
    }

    status, said = await kubectl(
        kube, "apply", "--validate=strict", "-f", "-", text=yaml.safe_dump(body)
    )

    assert status != 0
    assert "promotion" in said


async def test_a_name_too_long_for_an_audit_row_is_refused(cluster: Cluster) -> None:
    body = lora_body("support", URI)
    body["metadata"]["name"] = "a" * 64

    with pytest.raises(KubeInvalid, match="63 characters"):
        await cluster.create(LORA_ADAPTERS, body)


async def test_a_spec_change_does_not_touch_the_status_nor_the_other_way_round(
    cluster: Cluster,
) -> None:
    await cluster.create(LORA_ADAPTERS, lora_body("support", URI))

    await cluster.patch_status(LORA_ADAPTERS, "support", {"state": "live"})
    found = await cluster.patch(LORA_ADAPTERS, "support", {"status": {"state": "gone"}})

    assert found["status"] == {"state": "live"}
    assert found["metadata"]["generation"] == 1


def test_reserved_names_and_finalizers_are_as_in_the_code() -> None:
    text = CRD_FILE.read_text()
    spec = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]

    for field in ("tenant", "adapter"):
        rules = spec["spec"]["properties"][field]["x-kubernetes-validations"]
        named = set(re.findall(r"'([a-z]+)'", rules[1]["rule"]))
        assert named == RESERVED_NAMES
    assert "finalizer" not in text.lower()
