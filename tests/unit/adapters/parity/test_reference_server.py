"""The server with a child that misbehaves on demand, and once the whole program."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

import adapters.parity.reference_server as reference_server_module
from adapters.errors import ArtifactNotFound, ReferenceFailed, ReferenceUnavailable
from adapters.manifest import manifest_of_folder
from adapters.parity.protocol import TokenizedPrompt, VerifyItem
from adapters.parity.reference_channel import ChannelBroken, ProcessLauncher
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.reference_server import ReferenceServer, parse_options
from adapters.parity.reference_socket import ProofRefused, connect
from adapters.parity.reference_worker import FetchedAdapters, Worker
from adapters.store import ArtifactStore, folder_name
from tests.builders.reference_servers import (
    HOST,
    TOKEN,
    ConnectingLauncher,
    free_port,
    reference_server,
)

CHILD = [sys.executable, str(Path(__file__).parents[3] / "fakes" / "reference_child.py")]
WELL, DIES, HANGS = range(3)


class CountingLauncher(ProcessLauncher):
    """Remembers the children's process ids, so that a test can see a new one."""

    def __init__(self):
        super().__init__(CHILD)
        self.pids = []

    async def start(self, on_waiting):
        channel = await super().start(on_waiting)
        self.pids.append(channel.pid)
        return channel


class World:
    """A server of this process, and clients of it."""

    def __init__(self, folder, **settings):
        self.port, self.children = free_port(), CountingLauncher()
        store = ArtifactStore.from_url((folder / "store").as_uri())
        worker = Worker(self.children, FetchedAdapters(store, folder / "scratch"))
        self.server = ReferenceServer(worker, token=TOKEN, **settings)
        self.running = asyncio.ensure_future(self.server.run(HOST, self.port))

    def client(self, *, n_resends=0, **settings):
        launcher = ConnectingLauncher(self.port, n_resends=n_resends)
        return ReferenceClient(launcher=launcher, **{"timeout_seconds": 30.0, **settings})


@contextlib.asynccontextmanager
async def serving(folder, **settings):
    world = World(folder, **settings)
    try:
        yield world
    finally:
        world.running.cancel()
        await asyncio.gather(world.running, return_exceptions=True)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(is_so):
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)


async def test_the_next_client_finds_the_base_loaded(tmp_path):
    async with serving(tmp_path) as world:
        first, second = world.client(), world.client()
        await first.load_base("base", dtype="float32")
        await first.close()

        answer = await second.generate(None, [1], WELL)

        assert answer.text == "base"
        assert len(world.children.pids) == 1
        await second.close()


async def test_the_newer_client_takes_over_and_the_older_is_told(tmp_path):
    async with serving(tmp_path) as world:
        older, newer = world.client(n_resends=1), world.client()
        await older.load_base("base", dtype="float32")
        waiting = asyncio.create_task(older.generate(None, [1], HANGS))
        await asyncio.sleep(0.2)

        taking = asyncio.create_task(newer.load_base("base", dtype="float32"))

        with pytest.raises(ReferenceUnavailable, match="another controller has taken"):
            await waiting
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await older.close()
        await newer.close()


async def test_an_answer_that_nobody_waits_for_is_ended_after_a_while(tmp_path):
    async with serving(tmp_path, finish_seconds=0.3) as world:
        client = world.client(timeout_seconds=2.0)
        await client.load_base("base", dtype="float32")
        with pytest.raises(ReferenceFailed, match="within 2 s"):
            await client.generate(None, [1], HANGS)

        answer = await client.generate(None, [1], WELL)

        assert answer.text == "base"
        first, second = world.children.pids
        assert not is_alive(first)
        assert is_alive(second)
        await client.close()


async def test_a_stranger_does_not_disturb_the_client(tmp_path):
    async with serving(tmp_path) as world:
        client = world.client()
        await client.load_base("base", dtype="float32")
        with pytest.raises(ProofRefused):
            await connect(HOST, world.port, token="wrong")
        probes = [await asyncio.open_connection(HOST, world.port) for _ in range(3)]

        assert (await client.generate(None, [1], WELL)).text == "base"
        for _, writer in probes:
            writer.close()
        await client.close()


async def test_more_strangers_than_fit_are_hung_up_on_and_leave_room_again(tmp_path):
    async with serving(tmp_path) as world:
        strangers = []
        for _ in range(80):
            with contextlib.suppress(ConnectionError):
                strangers.append(await asyncio.open_connection(HOST, world.port))
        for _, writer in strangers:
            writer.close()

        client = world.client()

        assert (await client.load_base("base", dtype="float32")).model == "base"
        await client.close()


async def test_a_client_that_speaks_nonsense_is_hung_up_on(tmp_path):
    async with serving(tmp_path) as world:
        channel = await ConnectingLauncher(world.port).start(print)
        await channel.write_line(b"nonsense")
        with pytest.raises(ChannelBroken):
            await channel.read_line()
        await channel.end()

        client = world.client()
        assert (await client.load_base("base", dtype="float32")).model == "base"
        await client.close()


async def test_a_dead_child_is_told_to_the_client_with_its_log(tmp_path):
    async with serving(tmp_path) as world:
        client = world.client(n_resends=1)
        await client.load_base("base", dtype="float32")

        with pytest.raises(ReferenceFailed) as caught:
            await client.generate(None, [1], DIES)

        assert "status 7 during generate" in caught.value.fields["reason"]
        assert caught.value.fields["log_tail"] == "it burns"
        assert (await client.generate(None, [1], WELL)).text == "base"
        await client.close()


async def test_without_a_client_for_long_it_ends_and_its_child_too(tmp_path):
    async with serving(tmp_path, unused_seconds=2.0) as world:
        client = world.client()
        await client.load_base("base", dtype="float32")
        await asyncio.sleep(4.0)
        assert not world.running.done()  # there is a client

        await client.close()

        await asyncio.wait_for(world.running, 60)
        assert not is_alive(world.children.pids[0])


async def test_a_broken_connection_is_answered_by_asking_again_where_that_is_worth_it(tmp_path):
    async with serving(tmp_path) as world:
        launcher = ConnectingLauncher(world.port, n_resends=1)
        client = ReferenceClient(launcher=launcher, timeout_seconds=30.0)
        await client.load_base("base", dtype="float32")

        waiting = asyncio.create_task(client.generate(None, [1], HANGS))
        await until(lambda: world.server._client is not None)
        await asyncio.sleep(0.2)
        os.kill(world.children.pids[0], 9)
        with pytest.raises(ReferenceFailed, match="status -9"):
            await waiting  # the child died, which the server says: that is an answer
        channel = client._channel
        await world.server._client.end()
        await until(lambda: not channel.is_open)

        assert (await client.generate(None, [1], WELL)).text == "base"
        assert launcher.n_starts == 2
        await client.close()


def test_options_come_from_the_environment_and_the_command_line_wins():
    environ = {"LORAPLANE_REFERENCE_PORT": "1234", "LORAPLANE_REFERENCE_DEVICE": "cpu"}

    options = parse_options(["--port", "99"], environ)

    assert (options.port, options.device, options.unused_seconds) == (99, "cpu", 300.0)
    with pytest.raises(SystemExit):
        parse_options([], {"LORAPLANE_REFERENCE_PORT": "many"})


@pytest.mark.slow
async def test_the_program_answers_with_the_same_bits_as_a_child_of_this_machine(
    base, trained, tmp_path
):
    store = ArtifactStore.from_url((tmp_path / "store").as_uri())
    digest = await store.put(manifest_of_folder(trained), trained)
    prompts = [TokenizedPrompt(f"c{n}", (5, 6, 7 + n), 4) for n in range(3)]
    items = [VerifyItem(item.case_id, item.token_ids, (9, 10, 11)) for item in prompts]
    port = free_port()
    local = ReferenceClient(threads=1, device="cpu", timeout_seconds=300.0)
    remote = ReferenceClient(launcher=ConnectingLauncher(port), timeout_seconds=300.0)
    paths = {local: trained, remote: Path("/not/here") / folder_name(digest)}

    async def everything(client):
        facts = await client.load_base(base, dtype="float32")
        seen = []
        report = await client.check_finite(
            paths[client], prompts, on_progress=lambda *step: seen.append(step)
        )
        rows = await client.verify(paths[client], items, against_base=True)
        answer = await client.generate(paths[client], prompts[0].token_ids, 8)
        return facts, report, seen, rows, answer

    async with reference_server(port, store.url, tmp_path) as process:
        told = await everything(remote)
        with pytest.raises(ArtifactNotFound):
            await remote.generate(Path("sha256-" + "0" * 64), [1], 1)
        process.terminate()
        status = await process.wait()
        await remote.close()
    assert told == await everything(local)
    await local.close()

    assert status == 143
    assert not list(tmp_path.glob("reference-*"))


async def test_without_a_token_or_a_store_the_program_does_not_start(tmp_path):
    async with reference_server(free_port(), "", tmp_path) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 1


async def test_the_child_sees_nothing_of_the_servers_secrets(tmp_path, monkeypatch):
    secrets = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "{}",
        "AZURE_STORAGE_ACCOUNT_KEY": "key",
        "LORAPLANE_REFERENCE_TOKEN": TOKEN,
        "LORAPLANE_STORE_URL": (tmp_path / "store").as_uri(),
        "LORAPLANE_DATABASE_URL": "postgresql://a:b@c/d",
    }
    for name, value in {**secrets, "HF_HOME": "/cache", "CUDA_VISIBLE_DEVICES": "1"}.items():
        monkeypatch.setenv(name, value)
    given = []

    class Seen(ProcessLauncher):
        def __init__(self, command, **settings):
            super().__init__(CHILD, **settings)
            given.append(settings["env"])

    monkeypatch.setattr(reference_server_module, "ProcessLauncher", Seen)
    port = free_port()
    options = parse_options(["--host", HOST, "--port", str(port), "--unused-seconds", "0.2"], {})
    running = asyncio.ensure_future(
        reference_server_module.serve(
            options, token=TOKEN, store_url=secrets["LORAPLANE_STORE_URL"]
        )
    )
    client = ReferenceClient(launcher=ConnectingLauncher(port), timeout_seconds=30.0)
    await client.load_base("base", dtype="float32")
    told = await _environment_of_child(given[0])
    await client.close()

    assert await asyncio.wait_for(running, 20) == 0
    assert not secrets.keys() & told.keys()
    assert (told["HF_HOME"], told["CUDA_VISIBLE_DEVICES"]) == ("/cache", "1")


async def _environment_of_child(env):
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=env, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return json.loads(output)
