"""What a LoraAdapter refers to: buckets with credentials, suites, labels, and the real gate."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.fixtures.base_model import tiny_base
from serving.controller.errors import Deposed
from serving.controller.lifecycle import State, Verdict
from serving.kube.cluster import CONFIG_MAPS, LORA_ADAPTERS, SECRETS
from serving.kube.lora_adapters import run_lora_adapters
from serving.kube.lora_status import condition_of
from tests.builders.adapter_places import S3Bucket, s3_bucket, s3_server
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.kube_worlds import KubeWorld
from tests.builders.lora_world import (
    LoraWorld,
    adapter_folder,
    define_lora_adapters,
    lora_body,
    lora_world,
)
from tests.builders.random_adapters import random_adapter

SUITE = '{"id": "c1", "prompt": "Refund?", "max_tokens": 8}\n'


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> S3Bucket:
    return s3_bucket(s3_endpoint)


@pytest.fixture
async def world(kube: KubeWorld, tmp_path: Path) -> AsyncIterator[LoraWorld]:
    async with lora_world(kube, tmp_path) as made:
        yield made


async def add_secret(world: LoraWorld, name: str, values: dict[str, str]) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    await world.cluster.create(SECRETS, {"metadata": {"name": name}, "data": data})


async def test_a_bucket_is_read_with_the_credentials_of_a_secret(
    world: LoraWorld, bucket: S3Bucket, tmp_path: Path
) -> None:
    folder = await asyncio.to_thread(adapter_folder, tmp_path / "support")
    uri = await asyncio.to_thread(bucket.put_folder, folder, "runs/support")
    await world.start()

    await world.add("support", source={"uri": uri, "secretRef": {"name": "reader"}})
    refused = await world.until_reason("support", "Accepted", "SecretNotFound")
    await add_secret(world, "reader", bucket.credentials)
    status = await world.until_reason("support", "Accepted", "Registered")

    row = await world.repository.versions.find("acme/support@1")
    assert "reader" in refused["failure"]["message"]
    assert status["digest"] == row.digest
    assert await world.context.store.contains(row.digest)


async def test_a_secret_that_is_not_a_sources_is_refused_without_a_word_of_it(
    world: LoraWorld,
) -> None:
    await add_secret(world, "platform", {"admin-token": "verysecret", "cluster-secret": "too"})
    await world.start()

    source = {"uri": "s3://models/support", "secretRef": {"name": "platform"}}
    await world.add("support", "s3://x/y", source=source)
    status = await world.until_reason("support", "Accepted", "SourceInvalid")

    assert "verysecret" not in str(status)
    assert "admin-token" not in str(status)


async def test_a_place_that_nobody_answers_at_is_said_once_and_not_again_and_again(
    world: LoraWorld,
) -> None:
    credentials = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    await add_secret(world, "reader", credentials)
    await world.start()

    source = {"uri": "s3://models/support", "secretRef": {"name": "reader"}}
    await world.add("support", "s3://x/y", source=source)
    await world.until_reason("support", "Accepted", "SourceUnreachable")
    before = await world.cluster.get(LORA_ADAPTERS, "support")
    await asyncio.sleep(4.0)
    after = await world.cluster.get(LORA_ADAPTERS, "support")

    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_suite_in_a_config_map_is_stored_and_asked(world: LoraWorld) -> None:
    await world.start()
    suite = {"name": "refunds", "configMapRef": {"name": "suites", "key": "refunds.jsonl"}}
    await world.add("support", suite=suite)
    await world.until_reason("support", "Accepted", "ConfigMapNotFound")

    body = {"metadata": {"name": "suites"}, "data": {"refunds.jsonl": SUITE}}
    await world.cluster.create(CONFIG_MAPS, body)
    row = await world.until_version("support", 1)

    stored = await world.repository.tenants.find_suite("acme", "refunds")
    assert row.suite_id == stored.id == "acme/refunds@1"
    assert stored.content == SUITE


async def test_a_suite_that_cannot_be_parsed_is_said_with_its_line(world: LoraWorld) -> None:
    body = {"metadata": {"name": "suites"}, "data": {"bad": '{"id": "c1"}\n'}}
    await world.cluster.create(CONFIG_MAPS, body)
    await world.start()

    suite = {"name": "refunds", "configMapRef": {"name": "suites", "key": "bad"}}
    await world.add("support", suite=suite)
    status = await world.until_reason("support", "Accepted", "SuiteInvalid")

    assert "line=1" in status["failure"]["message"]


async def test_another_suite_asks_a_version_again_that_is_not_in_service(
    world: LoraWorld,
) -> None:
    for key in ("one", "two"):
        line = SUITE.replace("Refund?", key)
        body = {"metadata": {"name": key}, "data": {"cases": line}}
        await world.cluster.create(CONFIG_MAPS, body)
    await world.start()
    await world.add("support", suite=_suite_in("one"))
    row = await world.until_version("support", 1)
    await world.judge(row.id, Verdict.INCONCLUSIVE)
    await world.until_state("support", "inconclusive")

    await world.change("support", suite=_suite_in("two"))

    again = await world.until_row(row.id, State.EVALUATING)
    assert (again.suite_id, again.attempt) == ("acme/refunds@2", 1)


def _suite_in(config_map: str) -> dict[str, object]:
    return {"name": "refunds", "configMapRef": {"name": config_map, "key": "cases"}}


async def test_an_object_that_loses_its_label_is_let_go_and_its_versions_stay(
    world: LoraWorld,
) -> None:
    await world.start(lora_adapter_selector="fleet=a")
    uri = await world.source("support")
    mine = lora_body("support", uri, deletionPolicy="Retire")
    mine["metadata"]["labels"] = {"fleet": "a"}
    await world.cluster.create(LORA_ADAPTERS, mine)
    await world.add("sales")
    await world.until_reason("support", "Accepted", "Registered")
    await world.make_live("acme/support@1")

    await world.cluster.patch(LORA_ADAPTERS, "support", {"metadata": {"labels": {"fleet": None}}})
    await world.until_released("support")

    assert (await world.repository.versions.find("acme/support@1")).state == "live"
    assert await world.status("sales") == {}


async def test_a_controller_that_was_deposed_ends_and_changes_nothing_more(
    world: LoraWorld,
) -> None:
    fenced = replace(world.context, repository=world.repository.under(1))
    await world.repository.leadership.take(2)
    cluster = await world.kube.connect()
    await world.add("support")

    with pytest.raises(Deposed):
        async with asyncio.timeout(60):
            await run_lora_adapters(fenced, cluster)

    assert await world.repository.versions.all(tenant_id="acme") == []


@contextlib.asynccontextmanager
async def following(gate: GateWorld, kube: KubeWorld) -> AsyncIterator[None]:
    """The controller of LoraAdapters beside the gate's loop."""
    steps = gate.steps
    steps.repository.sessions.listen(steps.context.notifier.publish)
    cluster = await kube.connect()
    running = asyncio.create_task(run_lora_adapters(steps.context, cluster))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _ask_for_dora(folder: Path) -> None:
    config = folder / "adapter_config.json"
    text = config.read_text()
    assert '"use_dora": false' in text
    config.write_text(text.replace('"use_dora": false', '"use_dora": true'))


async def test_the_real_gate_passes_a_good_adapter_and_says_why_it_does_not_a_broken_one(
    kube: KubeWorld, tmp_path: Path
) -> None:
    await define_lora_adapters(kube)
    base, sources = await asyncio.to_thread(tiny_base), tmp_path / "sources"
    chosen = {"source_folders": str(sources)}
    async with gate_world(tmp_path / "controller", **chosen) as gate:
        world = LoraWorld(kube, await kube.connect_directly(), gate.steps.context, sources)
        good = await asyncio.to_thread(random_adapter, base, sources / "good", seed=1)
        broken = await asyncio.to_thread(random_adapter, base, sources / "broken", seed=2)
        await asyncio.to_thread(_ask_for_dora, broken)
        async with following(gate, kube):
            await world.add("good", good.as_uri(), suite={"name": "probe"})
            await world.add("broken", broken.as_uri(), suite={"name": "probe"})
            await world.until_version("good", 1)
            await world.until_version("broken", 1)
            await gate.drive("acme/good@1")
            await gate.drive("acme/broken@1")
            live = await world.until_state("good", "live")
            rejected = await world.until_state("broken", "rejected")

    assert (live["verdict"], live["live"]) == ("PASS", 1)
    assert live["digest"].startswith("sha256:")
    assert condition_of(live, "Live")["message"] == "acme/good@1 answers"
    assert "dora_unsupported" in rejected["failure"]["message"]
