"""The front that the chart renders, in a real Envoy before fake engines: who gets which request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.controller.auth import make_key
from tests.builders.envoy import Front, a_front, front_values, until
from tests.fakes.upstream import Upstream, upstreams

COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
async def engines() -> AsyncIterator[list[Upstream]]:
    async with upstreams("127.0.0.2", "127.0.0.3") as made:
        yield made


@pytest.fixture
async def front(engines: list[Upstream], tmp_path: Path) -> AsyncIterator[Front]:
    async with a_front(tmp_path, front_values(engines), n_healthy=2) as running:
        yield running


@pytest.fixture
async def client(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=30) as made:
        yield made


def keys(n: int) -> list[str]:
    return [make_key(f"tenant-{index}", cluster_secret="s") for index in range(n)]


async def ask(client: httpx.AsyncClient, key: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await client.post(COMPLETIONS, headers=headers, json={"model": "support", **body})


async def answerer(client: httpx.AsyncClient, key: str) -> str:
    answer = await ask(client, key)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["by"])


async def test_a_key_always_meets_the_same_engine_and_both_engines_have_some(
    client: httpx.AsyncClient,
) -> None:
    made = keys(40)

    first = [await answerer(client, key) for key in made]
    again = [await answerer(client, key) for key in made]

    assert again == first
    assert min(first.count("engine-0"), first.count("engine-1")) >= 10


async def test_all_keys_of_a_tenant_meet_the_same_engine(client: httpx.AsyncClient) -> None:
    for tenant in range(12):
        made = [make_key(f"tenant-{tenant}", cluster_secret="s") for _ in range(5)]

        assert len({await answerer(client, key) for key in made}) == 1


async def test_keys_without_a_tag_are_spread_as_they_are(client: httpx.AsyncClient) -> None:
    """Those that were made before keys had one."""
    made = [key.partition(".")[0] for key in keys(40)]

    first = [await answerer(client, key) for key in made]

    assert [await answerer(client, key) for key in made] == first
    assert min(first.count("engine-0"), first.count("engine-1")) >= 10


async def test_anthropics_header_and_the_common_one_lead_to_the_same_engine(
    client: httpx.AsyncClient,
) -> None:
    for key in keys(12):
        message = await client.post("/v1/messages", headers={"x-api-key": key}, json={})

        assert message.json()["by"] == await answerer(client, key)


async def test_an_engine_that_leaves_gets_no_new_request_and_none_fails(
    client: httpx.AsyncClient, engines: list[Upstream], front: Front
) -> None:
    made, statuses, is_over = keys(8), list[int](), asyncio.Event()

    async def traffic(key: str) -> None:
        while not is_over.is_set():
            statuses.append((await ask(client, key)).status_code)

    async with asyncio.TaskGroup() as group:
        for key in made:
            group.create_task(traffic(key))
        await _answered(engines, 20)
        engines[0].is_ready = False
        await front.wait_healthy(1)
        n_before = len(engines[0].seen)
        await _answered(engines[1:], len(engines[1].seen) + 50)
        n_after = len(engines[0].seen)
        is_over.set()

    # Those that had been handed over when the check failed may still have arrived.
    assert n_after - n_before <= len(made)
    assert set(statuses) == {200}


async def _answered(engines: list[Upstream], n: int) -> None:
    async def is_reached() -> bool:
        return sum(len(engine.seen) for engine in engines) >= n

    await until(is_reached, True)


async def test_with_no_engine_ready_the_client_hears_when_to_try_again(
    client: httpx.AsyncClient, engines: list[Upstream], front: Front
) -> None:
    for engine in engines:
        engine.is_ready = False
    await front.wait_healthy(0)

    answers = [await ask(client, key) for key in keys(8)]

    # Envoy's workers hear of a change a moment after it is counted.
    answer = answers[-1]
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_engine"
    assert answer.headers["retry-after"] == "2"
    assert {answer.status_code for answer in answers} <= {200, 503}


async def test_an_engine_that_comes_back_gets_its_tenants_back(
    client: httpx.AsyncClient, engines: list[Upstream], front: Front
) -> None:
    made = keys(20)
    first = [await answerer(client, key) for key in made]
    engines[0].is_ready = False
    await front.wait_healthy(1)
    assert {await answerer(client, key) for key in made} == {"engine-1"}

    engines[0].is_ready = True
    await front.wait_healthy(2)

    assert [await answerer(client, key) for key in made] == first


async def test_a_busy_engine_hands_a_tenants_requests_to_the_next(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    shares, answers = await shares_of_one_tenant(client, engines, 24)

    # Of 24 one engine may have 150 % of the mean of 12, and the one that made it so.
    assert 24 - 19 <= shares[0] <= 24 - 17
    assert {answer.status_code for answer in answers} == {200}


async def shares_of_one_tenant(
    client: httpx.AsyncClient, engines: list[Upstream], n: int
) -> tuple[list[int], list[httpx.Response]]:
    """Requests that each engine has after so many came one by one and none was answered."""
    gates, asked = [engine.hold() for engine in engines], []
    for i in range(n):
        asked.append(asyncio.create_task(ask(client, keys(1)[0])))
        await _answered(engines, i + 1)
    shares = sorted(engine.in_flight for engine in engines)
    for gate in gates:
        for _ in asked:
            gate.release()
    return shares, await asyncio.gather(*asked)


async def test_without_a_bound_a_tenant_stays_on_its_engine(
    engines: list[Upstream], tmp_path: Path
) -> None:
    values = front_values(engines, hashing={"balanceFactor": 0})
    async with (
        a_front(tmp_path, values, n_healthy=2) as front,
        httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=30) as client,
    ):
        shares, _ = await shares_of_one_tenant(client, engines, 24)

    assert shares == [0, 24]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/loraplane/v1/trace"), ("POST", "/loraplane/v1/drain"), ("GET", "/metrics"),
        ("GET", "/health"), ("GET", "/ready"), ("GET", "/"), ("GET", "/v1/../metrics"),
        ("GET", "/v1/%2e%2e/metrics"), ("GET", "/v1/..%2fmetrics"), ("GET", "//metrics"),
        ("GET", "/v1"), ("POST", "/quitquitquit"), ("GET", "/config_dump"),
    ],
)  # fmt: skip
async def test_nothing_but_inference_passes(
    front: Front, engines: list[Upstream], method: str, path: str
) -> None:
    """As sent on the wire: a client library would tidy the path up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port())
    request = (
        f"{method} {path} HTTP/1.1\r\nhost: front\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    writer.write(request.encode())
    answer = (await reader.read()).decode()
    writer.close()

    status = int(answer.split(" ")[1])
    assert status in ({400} if "%2f" in path else {404})
    assert '"code":' in answer
    assert [engine.seen for engine in engines] == [[], []]


async def test_the_admin_interface_is_reachable_from_inside_the_pod_alone(front: Front) -> None:
    from tests.builders.envoy import front_files

    config = front_files(front.values, front.folder / "again").read_text()
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = f"http://127.0.0.1:{front.port('metricsPort')}"
        stopped = await client.post(f"{metrics}/quitquitquit")
        dumped = await client.get(f"{metrics}/config_dump")
        posted = await client.post(f"{metrics}/metrics")
        scraped = await client.get(f"{metrics}/metrics")

    assert "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: " in config
    assert [stopped.status_code, dumped.status_code, posted.status_code] == [404, 404, 404]
    assert front.process.poll() is None
    assert "envoy_cluster_upstream_rq_total" in scraped.text


async def test_the_access_log_names_the_request_and_never_its_key(
    client: httpx.AsyncClient, engines: list[Upstream], front: Front
) -> None:
    key = keys(1)[0]
    headers = {"x-request-id": "mine-1", "authorization": f"Bearer {key}"}

    answer = await client.post(f"{COMPLETIONS}?token={key}", headers=headers, json={})
    await client.post("/v1/messages", headers={"x-api-key": key}, json={})
    await until(lambda: _n_lines(front), 2)

    assert answer.headers["x-request-id"] == "mine-1"
    (seen,) = (one for engine in engines for one in engine.seen if one.path.startswith(COMPLETIONS))
    assert seen.headers["x-request-id"] == "mine-1"
    first, second = front.access_log()
    assert (first["request_id"], first["path"], first["status"]) == ("mine-1", COMPLETIONS, 200)
    assert len(second["request_id"]) >= 32
    assert key not in front.access_log_text()
    assert key.rpartition(".")[0] not in front.access_log_text()
    assert front.log() == ""


async def _n_lines(front: Front) -> int:
    return len(front.access_log_text().splitlines())
