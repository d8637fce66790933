"""The front while pods come and go: new addresses, its own end, a renewed certificate."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from serving.controller.auth import make_key
from tests.builders.api_server import Authority
from tests.builders.envoy import Front, a_front, front_files, front_values, until
from tests.fakes.dns import DnsServer, dns_server
from tests.fakes.upstream import Upstream, upstreams

COMPLETIONS = "/v1/chat/completions"
SUFFIX = "loraplane-engine.default.svc.cluster.local"


def headers_of(tenant: int) -> dict[str, str]:
    return {"authorization": f"Bearer {make_key(f'tenant-{tenant}', cluster_secret='s')}"}


async def answerers(client: httpx.AsyncClient, n: int) -> list[str]:
    answers = [await client.post(COMPLETIONS, headers=headers_of(i), json={}) for i in range(n)]
    return [answer.json().get("by", answer.text) for answer in answers]


@asynccontextmanager
async def a_front_by_name(
    folder: Path, dns: DnsServer, *, engine_port: int
) -> AsyncIterator[tuple[Front, httpx.AsyncClient]]:
    """As in a cluster, by the StatefulSet's names; but for the port, which is 8500 there."""
    values = front_values(
        dns={"servers": [{"address": "127.0.0.1", "port": dns.port}], "refreshSeconds": 1}
    )
    async with (
        a_front(
            folder, values, replaced=("port_value: 8500", f"port_value: {engine_port}")
        ) as front,
        httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=30) as client,
    ):
        yield front, client


async def test_a_pod_that_comes_back_with_another_address_gets_its_tenants_back(
    tmp_path: Path,
) -> None:
    async with (
        upstreams("127.0.0.2", "127.0.0.3", "127.0.0.4") as (first, second, again),
        dns_server() as dns,
    ):
        dns.names = {
            f"loraplane-engine-0.{SUFFIX}": "127.0.0.2",
            f"loraplane-engine-1.{SUFFIX}": "127.0.0.3",
        }
        async with a_front_by_name(tmp_path, dns, engine_port=first.port) as (front, client):
            await front.wait_healthy(2)
            before = await answerers(client, 24)

            dns.names[f"loraplane-engine-0.{SUFFIX}"] = "127.0.0.4"
            await until(lambda: _asks(client, again.name, before.index(first.name)), True)

            after = await answerers(client, 24)

    assert {first.name, second.name} == set(before)
    assert after == [again.name if name == first.name else name for name in before]
    # The other fourteen names that the front looks for do not exist, and that is no error.
    assert f"loraplane-engine-15.{SUFFIX}" in dns.asked


async def _asks(client: httpx.AsyncClient, wanted: str, tenant: int) -> bool:
    answer = await client.post(COMPLETIONS, headers=headers_of(tenant), json={})
    return bool(answer.json().get("by") == wanted)


async def test_a_scaled_up_engine_takes_only_its_share_of_tenants(tmp_path: Path) -> None:
    async with upstreams("127.0.0.2", "127.0.0.3", "127.0.0.4") as made, dns_server() as dns:
        dns.names = {f"loraplane-engine-{i}.{SUFFIX}": made[i].address for i in range(2)}
        async with a_front_by_name(tmp_path, dns, engine_port=made[0].port) as (front, client):
            await front.wait_healthy(2)
            before = await answerers(client, 60)
            dns.names[f"loraplane-engine-2.{SUFFIX}"] = made[2].address
            await front.wait_healthy(3)
            after = await answerers(client, 60)

    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert 8 <= len(moved) <= 32
    # Maglev moves a few between the old ones, too.
    assert sum(new == "engine-2" for _, new in moved) >= 0.7 * len(moved)


async def test_a_stream_ends_whole_though_its_engine_has_left_dns(tmp_path: Path) -> None:
    async with upstreams("127.0.0.2") as (engine,), dns_server() as dns:
        dns.names = {f"loraplane-engine-0.{SUFFIX}": "127.0.0.2"}
        async with a_front_by_name(tmp_path, dns, engine_port=engine.port) as (front, client):
            await front.wait_healthy(1)
            gate = engine.hold()
            body = {"stream": 4}
            async with client.stream(
                "POST", COMPLETIONS, headers=headers_of(0), json=body
            ) as answer:
                lines = answer.aiter_lines()
                pieces = [await anext(lines)]
                engine.is_ready = False
                dns.names.clear()
                await until(lambda: front.statistic("cluster.engines.membership_total"), 0)
                for _ in range(4):
                    gate.release()
                pieces += [line async for line in lines]

    assert [piece for piece in pieces if piece] == [f"data: engine-0 {i}" for i in range(4)]


async def test_a_front_that_leaves_answers_what_it_has_begun_and_what_still_comes(
    tmp_path: Path,
) -> None:
    """The preStop hook of the pod, then SIGTERM, as the kubelet does it."""
    async with upstreams("127.0.0.2") as (engine,):
        values = front_values([engine])
        values["front"]["drain"] = {"leaveSeconds": 1, "timeoutSeconds": 60}
        async with (
            a_front(tmp_path, values, n_healthy=1) as front,
            httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=60) as client,
        ):
            usual = await client.post(COMPLETIONS, headers=headers_of(0), json={})
            gate = engine.hold()
            asked = asyncio.create_task(
                client.post(COMPLETIONS, headers=headers_of(0), json={"stream": 3})
            )
            await until(lambda: _in_flight(engine), 1)

            script = front_files(values, tmp_path / "again").parent / "drain.sh"
            hook = await asyncio.create_subprocess_exec("/bin/bash", str(script))
            await until(lambda: _says_close(client), True)
            ended_early = await _has_ended(hook, within_seconds=3.0)
            for _ in range(3):
                gate.release()
            answer = await asked
            code = await asyncio.wait_for(hook.wait(), 30)
            front.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(front.process.wait, 20)

    assert "connection" not in usual.headers
    assert not ended_early
    assert answer.text.count("data: engine-0") == 3
    assert code == 0
    assert front.process.returncode == 0


async def _in_flight(engine: Upstream) -> int:
    return engine.in_flight


async def _says_close(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/nothing")
    return answer.headers.get("connection") == "close"


async def _has_ended(process: asyncio.subprocess.Process, *, within_seconds: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), within_seconds)
    except TimeoutError:
        return False
    return True


async def test_a_front_whose_connections_are_all_taken_still_answers_its_probes(
    tmp_path: Path,
) -> None:
    """Else the kubelet would restart it, and cut the connections that it serves."""
    async with upstreams("127.0.0.2") as (engine,):
        values = front_values([engine], maxConnections=4)
        async with a_front(tmp_path, values, n_healthy=1) as front:
            taken = [await asyncio.open_connection("127.0.0.1", front.port()) for _ in range(8)]
            await until(lambda: _refused(taken), 4, front.log)
            # The metrics listener asks the admin interface, by a connection like any other.
            statuses = [
                await _status(f"http://127.0.0.1:{front.port(which)}{path}")
                for which, path in (
                    ("metricsPort", "/ready"),
                    ("metricsPort", "/metrics"),
                    ("adminPort", "/ready"),
                )
            ]
            still = await _refused(taken)
            for _, writer in taken:
                writer.close()

    assert statuses == [200, 200, 200]
    assert still == 4


async def _refused(taken: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> int:
    return sum(reader.at_eof() or reader.exception() is not None for reader, _ in taken)


async def _status(url: str) -> int | str:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        try:
            return (await client.get(url)).status_code
        except httpx.TransportError as exc:
            return repr(exc)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    old, new = Authority(), Authority()
    folder = tmp_path / "tls"
    async with upstreams("127.0.0.2") as (engine,):
        values = front_values([engine])
        values["front"]["tls"] = {"secretName": "cert"}
        _mount(folder, old, "1")
        async with a_front(tmp_path, values, n_healthy=1) as front:
            url = f"https://localhost:{front.port()}{COMPLETIONS}"
            with_old = await _post(url, old)
            _mount(folder, new, "2")
            await until(lambda: _is_trusted(url, new), True)
            plain = await _is_trusted(url.replace("https", "http"), new)
            still = await _is_trusted(url, old)

    assert with_old == 200
    assert not plain
    assert not still


def _mount(folder: Path, authority: Authority, generation: str) -> None:
    """As the kubelet updates a mounted Secret: a new folder, then one symbolic link moved."""
    certificate, key = authority.issue("front")
    made = folder / f"..{generation}"
    made.mkdir(parents=True)
    (made / "tls.crt").write_bytes(certificate)
    (made / "tls.key").write_bytes(key)
    (folder / "..new").symlink_to(made.name)
    os.replace(folder / "..new", folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


async def _post(url: str, authority: Authority) -> int:
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
        return (await client.post(url, headers=headers_of(0), json={})).status_code


async def _is_trusted(url: str, authority: Authority) -> bool:
    try:
        return await _post(url, authority) == httpx.codes.OK
    except httpx.TransportError:
        return False
