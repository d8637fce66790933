"""What tests/contract/test_engine_contract.py needs of an engine, and the fake one of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fixtures.base_model import tiny_base
from serving.contract import FleetSnapshot
from tests.fakes.controller import DesiredState
from tests.fakes.engine import FakeEngine
from tests.fakes.http_link import HttpLink
from tests.fakes.served import in_thread, served
from tests.fakes.tiny_model import TinyModel

SECRET = "cluster-secret-of-the-contract"


@dataclass(frozen=True)
class EngineUnderTest:
    """A running engine that pulls from `desired` and fetches artifacts from `store`.

    It serves `base` in float32 under the name `desired.snapshot.fleet`, with `SECRET` as its
    cluster secret, at least four slots, and rank 8 or more.
    """

    url: str
    desired: DesiredState
    base: Path
    store: Path


@contextmanager
def desired_state(folder: Path, *, fleet: str = "base") -> Iterator[tuple[DesiredState, str]]:
    """An empty desired state over a new store in `folder`, and the URL that engines pull from."""
    store = folder / "artifacts"
    store.mkdir(parents=True)
    first = FleetSnapshot(revision=1, fleet=fleet, store_url=store.as_uri())
    desired = DesiredState(first, cluster_secret=SECRET)
    with in_thread(served(desired.app)) as url:
        yield desired, url


@contextmanager
def fake_engine_under_test(folder: Path) -> Iterator[EngineUnderTest]:
    """The fake engine on the tiny base, over HTTP on both sides."""
    with desired_state(folder) as (desired, controller), in_thread(_fake(controller)) as url:
        yield EngineUnderTest(url, desired, tiny_base(), folder / "artifacts")


@asynccontextmanager
async def _fake(controller: str) -> AsyncIterator[str]:
    link = HttpLink(url=controller, cluster_secret=SECRET)
    engine = FakeEngine(model=TinyModel(tiny_base()), link=link, cluster_secret=SECRET)
    async with served(engine.app) as url:
        engine.url = url
        running = asyncio.create_task(engine.run())
        try:
            yield url
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await link.aclose()
