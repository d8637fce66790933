"""Credentials: what may be used, and what happens when a token is replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from serving.kube.cluster import CONFIG_MAPS, PODS, Cluster
from serving.kube.errors import (
    KubeConfigInvalid,
    KubeForbidden,
    KubeTooMuch,
    KubeUnreachable,
)
from tests.builders.api_server import kubeconfig_text
from tests.fakes.api_objects import Refused
from tests.fakes.api_server import FakeApiServer, run_fake_api_server


@pytest.fixture
async def fake() -> AsyncIterator[FakeApiServer]:
    async with run_fake_api_server() as server:
        yield server


@pytest.fixture
async def token_file(fake: FakeApiServer, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first")
    fake.tokens = {"first"}
    (tmp_path / "kubeconfig").write_text(kubeconfig_text(fake.url, {"tokenFile": str(path)}))
    return path


async def test_a_token_that_was_replaced_is_read_anew(
    fake: FakeApiServer, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.kube.connection._RELOAD_SECONDS", 0.0)
    cluster = await Cluster.connect(kubeconfig=token_file.with_name("kubeconfig"))
    await cluster.list(PODS)

    token_file.write_text("second")  # noqa: ASYNC240
    fake.tokens = {"second"}

    assert (await cluster.list(PODS)).items == []
    await cluster.close()


async def test_a_token_that_nobody_knows_is_refused_without_end(
    fake: FakeApiServer, token_file: Path
) -> None:
    cluster = await Cluster.connect(kubeconfig=token_file.with_name("kubeconfig"))
    fake.tokens = set()

    for _ in range(2):
        with pytest.raises(KubeForbidden) as caught:
            await cluster.list(PODS)
        assert caught.value.status == 401
    await cluster.close()


async def test_a_servers_own_trouble_is_not_a_refusal(
    fake: FakeApiServer, token_file: Path
) -> None:
    cluster = await Cluster.connect(kubeconfig=token_file.with_name("kubeconfig"))
    fake.troubles = [Refused(500, "InternalError", "etcd is away")]

    with pytest.raises(KubeUnreachable):
        await cluster.list(PODS)

    assert (await cluster.list(PODS)).items == []
    await cluster.close()


async def test_an_answer_without_end_is_not_read_to_its_end(
    fake: FakeApiServer, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await Cluster.connect(kubeconfig=token_file.with_name("kubeconfig"))
    body = {"metadata": {"name": "big"}, "data": {"text": "x" * 5000}}
    await cluster.create(CONFIG_MAPS, body)
    monkeypatch.setattr("serving.kube.connection._MAX_ANSWER_BYTES", 1000)

    with pytest.raises(KubeTooMuch):
        await cluster.get(CONFIG_MAPS, "big")
    await cluster.close()


async def test_a_pods_log_is_its_last_lines(fake: FakeApiServer, token_file: Path) -> None:
    cluster = await Cluster.connect(namespace="mine", kubeconfig=token_file.with_name("kubeconfig"))
    await cluster.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": []}})
    fake.logs["mine", "p"] = "one\ntwo\nthree\n"

    assert await cluster.log_tail("p", lines=2) == "two\nthree\n"
    await cluster.close()


async def test_a_server_whose_certificate_is_not_checked_is_not_talked_to(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    config = yaml.safe_load(kubeconfig_text("https://127.0.0.1:1", {"token": "t"}))
    config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    path.write_text(yaml.safe_dump(config))

    with pytest.raises(KubeConfigInvalid, match="certificate"):
        await Cluster.connect(kubeconfig=path)


@pytest.mark.parametrize("content", [None, "clusters: ["])
async def test_a_kubeconfig_that_cannot_be_read_is_named_so(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    with pytest.raises(KubeConfigInvalid):
        await Cluster.connect(kubeconfig=path)


async def test_outside_of_a_pod_there_is_no_service_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(KubeConfigInvalid):
        await Cluster.connect()
