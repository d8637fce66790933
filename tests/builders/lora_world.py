"""The LoraAdapter controller over a real registry and store, in one namespace of an API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from adapters.manifest import CONFIG_FILE, TENSOR_FILE
from serving.controller.context import ControllerContext
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.kube.cluster import LORA_ADAPTERS, Cluster
from serving.kube.errors import KubeAlreadyExists
from serving.kube.kinds import WRITTEN_EVENTS, Json, Kind
from serving.kube.lora_adapters import run_lora_adapters
from serving.kube.lora_status import condition_of
from tests.builders.kube_worlds import KubeWorld
from tests.builders.registry import claim, conclude, switch
from tests.builders.steps_world import steps_world

DEADLINE_SECONDS = 60.0
CRD_FILE = Path(__file__).parents[2] / "helm" / "loraplane" / "crds" / "loraadapters.yaml"
DEFINITIONS = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False,
)  # fmt: skip


async def define_lora_adapters(kube: KubeWorld) -> None:
    """Install the chart's CRD where the server asks for one; returns once it is served."""
    if kube.server is None:
        return
    cluster = await kube.connect_directly()
    body = yaml.safe_load(await asyncio.to_thread(CRD_FILE.read_text))
    with contextlib.suppress(KubeAlreadyExists):
        await cluster.create(DEFINITIONS, body)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await cluster.get(DEFINITIONS, "loraadapters.loraplane.dev")
            conditions = found.get("status", {}).get("conditions") or []
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                return
            await asyncio.sleep(0.05)


def adapter_folder(folder: Path, content: str = "one") -> Path:
    """Files that have the names of an adapter's; the gate is played, so no more is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps({"r": 8, "content": content}))
    (folder / TENSOR_FILE).write_bytes(content.encode() * 100)
    return folder


def lora_body(name: str, uri: str, /, **spec: Any) -> Json:
    """A LoraAdapter; by default of tenant acme, its adapter named as the object."""
    fields = {"tenant": "acme", "adapter": name, "source": {"uri": uri}, **spec}
    return {"metadata": {"name": name}, "spec": fields}


@dataclass
class LoraWorld:
    """`cluster` is the tests' own way to the API server; the controller has another."""

    kube: KubeWorld
    cluster: Cluster
    context: ControllerContext
    sources: Path
    """Folder that the operator allows."""
    _running: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def repository(self) -> Repository:
        return self.context.repository

    async def start(self, **settings: Any) -> asyncio.Task[None]:
        """Run the controller, over the line that can break."""
        context = self.context
        if settings:
            context = replace(context, settings=replace(context.settings, **settings))
        cluster = await self.kube.connect(request_seconds=5.0)
        task = asyncio.create_task(run_lora_adapters(context, cluster, instance="controller-0"))
        self._running.append(task)
        return task

    async def stop(self) -> None:
        """End every controller, as a lost lead does."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()

    async def source(self, name: str = "support", content: str = "one") -> str:
        """A folder with an adapter in it; its URI."""
        folder = await asyncio.to_thread(adapter_folder, self.sources / name, content)
        return folder.as_uri()

    async def add(self, name: str, uri: str | None = None, /, **spec: Any) -> Json:
        """Make a LoraAdapter; by default with a source that holds an adapter."""
        uri = uri if uri is not None else await self.source(name)
        return await self.cluster.create(LORA_ADAPTERS, lora_body(name, uri, **spec))

    async def change(self, name: str, **spec: Any) -> Json:
        """Change its spec."""
        return await self.cluster.patch(LORA_ADAPTERS, name, {"spec": spec})

    async def remove(self, name: str) -> None:
        await self.cluster.delete(LORA_ADAPTERS, name)

    async def status(self, name: str) -> Json:
        """Its status now."""
        found = await self.cluster.get(LORA_ADAPTERS, name)
        status: Json = found.get("status") or {}
        return status

    async def until(self, name: str, is_so: Callable[[Json], bool]) -> Json:
        """Its status, once it is as wanted."""
        status: Json = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    status = await self.status(name)
                    if is_so(status):
                        return status
                    await asyncio.sleep(0.05)
        assert is_so(status), f"the status of {name} stayed {json.dumps(status, indent=1)}"
        return status

    async def until_state(self, name: str, state: str) -> Json:
        return await self.until(name, lambda status: status.get("state") == state)

    async def until_reason(self, name: str, kind: str, reason: str) -> Json:
        """Its status, once a condition has this reason."""
        return await self.until(name, lambda s: condition_of(s, kind).get("reason") == reason)

    async def until_version(self, name: str, number: int) -> VersionRow:
        """The row of the version that its status names, once it is that one."""
        await self.until(name, lambda status: status.get("version") == number)
        return await self.repository.versions.find(f"acme/{name}@{number}")

    async def until_row(self, version: str, state: State) -> VersionRow:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                row = await self.repository.versions.find(version)
                if row.state == state.value:
                    return row
                await asyncio.sleep(0.05)

    async def until_event(self, name: str, kind: str, reason: str) -> list[tuple[str, str]]:
        """All Events about the object, once there is this one."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                told = await self.events(name)
                if (kind, reason) in told:
                    return told
                await asyncio.sleep(0.05)

    async def until_released(self, adapter: str) -> None:
        """Return once no object manages this adapter of acme's."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                if await self.repository.managed.find("acme", adapter) is None:
                    return
                await asyncio.sleep(0.05)

    async def judge(self, version: str, verdict: Verdict) -> None:
        """Play the gate: preflight accepts, then this verdict."""
        row = await self.repository.versions.find(version)
        if row.state == State.VALIDATING:
            token = await claim(self.repository, row, State.VALIDATING)
            assert await self.repository.work.apply(row.id, token, Move(event=Event.ACCEPT))
        await conclude(self.repository, row, verdict)

    async def prove(self, version: str) -> None:
        """Play the engines: the alias moves to it."""
        await switch(self.repository, await self.repository.versions.find(version))

    async def make_live(self, version: str) -> None:
        """A happy life, for a version that goes on by itself."""
        await self.judge(version, Verdict.PASS)
        await self.prove(version)

    async def events(self, name: str) -> list[tuple[str, str]]:
        """(type, reason) of every Event about the object, oldest first."""
        found = await self.cluster.list(WRITTEN_EVENTS)
        about = [item for item in found.items if item["regarding"]["name"] == name]
        about.sort(key=lambda item: (item["eventTime"], int(item["metadata"]["resourceVersion"])))
        return [(item["type"], item["reason"]) for item in about]


@contextlib.asynccontextmanager
async def lora_world(kube: KubeWorld, folder: Path) -> AsyncIterator[LoraWorld]:
    """Tenant acme, an allowed folder of sources, and no controller yet."""
    await define_lora_adapters(kube)
    sources = folder / "sources"
    await asyncio.to_thread(sources.mkdir)
    chosen = {"source_folders": str(sources), "source_poll_seconds": 0.3}
    async with steps_world(folder / "controller", None, **chosen) as steps:
        steps.repository.sessions.listen(steps.context.notifier.publish)
        world = LoraWorld(kube, await kube.connect_directly(), steps.context, sources)
        try:
            yield world
        finally:
            await world.stop()
