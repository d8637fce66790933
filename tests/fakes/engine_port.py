"""A fake of the inference engine behind `EnginePort`: keeps caches and answers from the bytes.

An adapter is a folder; its bytes decide what it answers. `REFUSE` in them makes its load refused,
`NAN` its answers non-finite.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from serving.engine.ports import (
    AdapterLoads,
    EngineBusy,
    EngineDescription,
    EngineUnavailable,
    GeneratedTokens,
    LoadOutcome,
    LoadRefused,
    LoadSeconds,
    WorkerFacts,
)

DESCRIPTION = EngineDescription(
    build="fake 1",
    dtype="float32",
    gpu_slots=2,
    cpu_slots=8,
    max_rank=16,
    max_model_len=2048,
    has_priorities=True,
)


class FakeEnginePort:
    def __init__(self, *, cpu_slots: int = 8) -> None:
        self.cached: OrderedDict[str, bytes] = OrderedDict()
        self.requests: Counter[str] = Counter()
        """Requests that the engine works on, by name; a test may set them."""
        self.loads: dict[str, AdapterLoads] = {}
        self.non_finite: set[str] = set()
        self.hot: tuple[str, ...] = ()
        self.is_down = False
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.n_reading = 0
        self.loads_in_step = 0
        self._description = replace(DESCRIPTION, cpu_slots=cpu_slots)

    def describe(self) -> EngineDescription:
        return self._description

    async def prefetch(self, name: str, path: str, leased: Collection[str]) -> LoadOutcome:
        self._require_up()
        if name in self.cached:
            self.cached.move_to_end(name)
            return LoadOutcome("resident")
        data = read_adapter(Path(path))
        self.n_reading += 1
        try:
            await self.may_read.wait()
        finally:
            self.n_reading -= 1
        if data is None or b"REFUSE" in data:
            counts = self.loads.get(name, AdapterLoads())
            self.loads[name] = replace(counts, failures=counts.failures + 1)
            if data is None:
                raise LoadRefused("unreadable", path)
            raise LoadRefused("shape_mismatch", "its bytes say so")
        evicted = self._make_room(leased)
        self.cached[name] = data
        counts = self.loads.get(name, AdapterLoads())
        self.loads[name] = replace(counts, loads_disk=counts.loads_disk + 1)
        return LoadOutcome("disk", evicted, 0.001)

    def _make_room(self, leased: Collection[str]) -> tuple[str, ...]:
        if len(self.cached) < self._description.cpu_slots:
            return ()
        victim = next((name for name in self.cached if name not in leased), None)
        if victim is None:
            raise EngineBusy
        del self.cached[victim]
        counts = self.loads[victim]
        self.loads[victim] = replace(counts, evictions_cache=counts.evictions_cache + 1)
        return (victim,)

    async def keep_hot(self, names: Sequence[str]) -> None:
        self._require_up()
        self.hot = tuple(names)

    async def remove(self, name: str, *, is_forgotten: bool = True) -> None:
        self._require_up()
        assert not self.requests[name], f"{name} was removed with requests in flight"
        await asyncio.sleep(0)
        was_there = self.cached.pop(name, None) is not None
        if is_forgotten:
            self.loads.pop(name, None)
        elif was_there:
            counts = self.loads[name]
            self.loads[name] = replace(counts, removals=counts.removals + 1)
        self.non_finite.discard(name)

    async def generate(
        self, name: str | None, prompt_token_ids: list[int], max_tokens: int
    ) -> GeneratedTokens:
        self._require_up()
        data = b"base"
        if name is not None:
            if name not in self.cached:
                self.loads_in_step += 1
            data = self.cached[name]
            self.cached.move_to_end(name)
        await asyncio.sleep(0)
        if b"NAN" in data and name is not None:
            self.non_finite.add(name)
            return GeneratedTokens((), (), (), is_finite=False)
        return answer_of(data, prompt_token_ids, max_tokens)

    async def observe(self) -> WorkerFacts:
        return WorkerFacts(
            adapters=dict(self.loads),
            active=tuple(self.cached)[-2:],
            cached=tuple(self.cached),
            load_seconds={"disk": LoadSeconds((0.01, 0.1), (1, 1, 1), 0.5)},
            non_finite=frozenset(self.non_finite),
            loads_in_step=self.loads_in_step,
        )

    def in_flight(self, name: str) -> int:
        return self.requests[name]

    async def abort(self, name: str) -> int:
        return self.requests.pop(name, 0)

    def _require_up(self) -> None:
        if self.is_down:
            raise EngineUnavailable("a test wants it so")


def read_adapter(folder: Path) -> bytes | None:
    if not folder.is_dir():
        return None
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def answer_of(data: bytes, prompt_token_ids: list[int], max_tokens: int) -> GeneratedTokens:
    """What these bytes answer: tokens from their hash, every margin one nat."""
    seed = hashlib.sha256(data + bytes(prompt_token_ids)).digest()
    tokens = tuple(seed[i % len(seed)] for i in range(max_tokens))
    return GeneratedTokens(
        tokens, tuple(-0.5 for _ in tokens), tuple(1.0 for _ in tokens), is_finite=True
    )
