"""vLLM's `AsyncLLM`, seen through our `EnginePort`; lives in the API server process."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from vllm import SamplingParams
from vllm.exceptions import GracefulHTTPError
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from serving.engine.compat.facts import LOAD_SECONDS_BUCKETS, Facts, read_facts
from serving.engine.ports import (
    AdapterLoads,
    EngineBusy,
    EngineDescription,
    EngineUnavailable,
    GeneratedTokens,
    LoadOutcome,
    LoadRefused,
    LoadSeconds,
    MemoryFacts,
    WorkerFacts,
)

PROBE_PREFIX = "loraplane-probe-"
"""Of the ids of our own requests, which are nobody's use of an adapter."""
_FIRST_POLL_SECONDS = 0.001
_LAST_POLL_SECONDS = 0.02
"""A poll waits for the running step to end, so polling faster than a step gains nothing."""
_CALL_TIMEOUT_SECONDS = 60.0


class QuarantinedRequest(GracefulHTTPError):  # type: ignore[misc]  # vllm is untyped here
    """A request whose adapter made non-finite logits: 503, instead of an answer made of noise."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The adapter {name} produced non-finite values and was taken out of service.",
            HTTPStatus.SERVICE_UNAVAILABLE,
        )


class VllmEngine:
    """Implements `EnginePort`. One id per name for ever, so one id is one set of bytes."""

    def __init__(
        self,
        engine_client: Any,
        next_lora_id: Callable[[], int],
        facts_path: Path,
        description: EngineDescription,
    ) -> None:
        self._client = engine_client
        self._next_lora_id = next_lora_id
        self._facts_path = facts_path
        self._description = description
        self._requests: dict[str, LoRARequest] = {}
        self._name_by_id: dict[int, str] = {}
        self._non_finite: set[str] = set()
        self._loading = asyncio.Lock()

    def describe(self) -> EngineDescription:
        """What this engine is."""
        return self._description

    def lora_request(self, name: str) -> LoRARequest:
        """The request object that makes vLLM answer with a resident adapter."""
        return self._requests[name]

    async def prefetch(self, name: str, path: str, leased: Collection[str]) -> LoadOutcome:
        """See `EnginePort.prefetch`. One load at a time: each evicts with the exact leases."""
        started = time.perf_counter()
        request = self._request(name, path)
        lora_id = request.lora_int_id
        async with self._loading:
            await self._call("loraplane_begin_load", name, lora_id, path)
            was_resident = await self._wait_until_read(lora_id) == "resident"
            evicted = await self._commit(name, lora_id, leased)
        source: Literal["disk", "resident"] = "resident" if was_resident else "disk"
        return LoadOutcome(source, evicted, time.perf_counter() - started)

    async def _wait_until_read(self, lora_id: int) -> str:
        pause = _FIRST_POLL_SECONDS
        while True:
            answers = await self._call("loraplane_load_state", lora_id)
            states = {answer["state"] for answer in answers}
            if "refused" in states:
                refused = next(answer for answer in answers if answer["state"] == "refused")
                name = self._name_by_id.pop(lora_id)
                await self._call("loraplane_remove", lora_id, name, False)
                self._requests.pop(name, None)
                raise LoadRefused(refused["reason"], refused["detail"])
            if "pending" not in states:
                return "resident" if states == {"resident"} else "ready"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_POLL_SECONDS)

    async def _commit(self, name: str, lora_id: int, leased: Collection[str]) -> tuple[str, ...]:
        leased_ids = [self._requests[held].lora_int_id for held in leased if held in self._requests]
        answers = await self._call("loraplane_commit", name, lora_id, leased_ids)
        if any(answer["state"] == "full" for answer in answers):
            raise EngineBusy
        return tuple(self._name_by_id[evicted] for evicted in answers[0]["evicted"])

    async def remove(self, name: str, *, is_forgotten: bool = True) -> None:
        """See `EnginePort.remove`."""
        request = self._requests.get(name)
        if request is not None or is_forgotten:
            lora_id = 0 if request is None else request.lora_int_id
            await self._call("loraplane_remove", lora_id, name, is_forgotten)
        if request is not None:
            del self._requests[name], self._name_by_id[request.lora_int_id]
        self._non_finite.discard(name)

    async def keep_hot(self, names: Sequence[str]) -> None:
        """See `EnginePort.keep_hot`."""
        await self._call("loraplane_keep_hot", list(names))

    async def generate(
        self, name: str | None, prompt_token_ids: list[int], max_tokens: int
    ) -> GeneratedTokens:
        """See `EnginePort.generate`. Two logprobs a token, so that margins are known."""
        params = SamplingParams(
            temperature=0.0, max_tokens=max_tokens, logprobs=2, ignore_eos=True, detokenize=False
        )
        final = None
        try:
            async for output in self._client.generate(
                TokensPrompt(prompt_token_ids=prompt_token_ids),
                params,
                PROBE_PREFIX + uuid.uuid4().hex,
                lora_request=None if name is None else self.lora_request(name),
                priority=self._description.last_priority,
            ):
                final = output
        except QuarantinedRequest:
            return GeneratedTokens((), (), (), is_finite=False)
        except EngineDeadError as exc:
            raise EngineUnavailable(str(exc)) from exc
        if final is None:
            raise EngineUnavailable("the engine ended a probe without an answer")
        return _tokens(final.outputs[0])

    async def observe(self) -> WorkerFacts:
        """See `EnginePort.observe`."""
        facts = read_facts(self._facts_path) or Facts()
        return WorkerFacts(
            adapters=_adapters(facts, time.monotonic()),
            active=tuple(facts.active),
            cached=tuple(facts.cached),
            load_seconds={
                source: LoadSeconds(LOAD_SECONDS_BUCKETS, tuple(h.counts), h.total_seconds)
                for source, h in facts.load_seconds.items()
            },
            non_finite=frozenset(self._non_finite),
            loads_in_step=facts.loads_in_step,
            memory=_memory(facts),
        )

    def in_flight(self, name: str) -> int:
        """See `EnginePort.in_flight`."""
        return len(self._request_ids(name))

    async def abort(self, name: str) -> int:
        """See `EnginePort.abort`; each waiting client gets an error, not a truncated answer."""
        states = self._client.output_processor.request_states
        request_ids = self._request_ids(name)
        for request_id in request_ids:
            if (queue := states[request_id].queue) is not None:
                queue.put(QuarantinedRequest(name))
        await self._client.abort(request_ids, internal=True)
        return len(request_ids)

    def mark_non_finite(self, name: str) -> None:
        """The engine met a NaN in this adapter's logits."""
        self._non_finite.add(name)

    def _request_ids(self, name: str) -> list[str]:
        states = self._client.output_processor.request_states
        return [key for key, state in states.items() if state.lora_name == name]

    def _request(self, name: str, path: str) -> LoRARequest:
        request = self._requests.get(name)
        if request is None:
            request = LoRARequest(lora_name=name, lora_int_id=self._next_lora_id(), lora_path=path)
            self._requests[name] = request
            self._name_by_id[request.lora_int_id] = name
        elif request.lora_path != path:
            raise LoadRefused("path_changed", f"{name} was loaded from another folder before")
        return request

    async def _call(self, method: str, *args: Any) -> list[Any]:
        try:
            answers = await self._client.collective_rpc(
                method, timeout=_CALL_TIMEOUT_SECONDS, args=args
            )
        except (EngineDeadError, TimeoutError) as exc:
            raise EngineUnavailable(f"{method}: {exc!r}") from exc
        return list(answers)


def _adapters(facts: Facts, now: float) -> dict[str, AdapterLoads]:
    """Per adapter; the present stay in a slot counts up to `now`, on the worker's clock."""
    since = facts.in_slot_since
    return {
        name: AdapterLoads(
            loads_disk=counts.loads_disk,
            loads_cache=counts.loads_cache,
            evictions_slot=counts.evictions_slot,
            evictions_cache=counts.evictions_cache,
            removals=counts.removals,
            failures=counts.failures,
            slot_seconds=counts.slot_seconds + max(0.0, now - since.get(name, now)),
        )
        for name, counts in facts.adapters.items()
    }


def _memory(facts: Facts) -> MemoryFacts | None:
    found = facts.memory
    if found is None:
        return None
    return MemoryFacts(found.slot_bytes, found.kv_bytes_per_token, found.kv_tokens)


def _tokens(output: Any) -> GeneratedTokens:
    logprobs, margins = [], []
    for token_id, choices in zip(output.token_ids, output.logprobs or (), strict=True):
        ranked = sorted((choice.logprob for choice in choices.values()), reverse=True)
        logprobs.append(choices[token_id].logprob)
        margins.append(ranked[0] - ranked[1] if len(ranked) > 1 else float("inf"))
    is_finite = all(math.isfinite(value) for value in logprobs)
    return GeneratedTokens(tuple(output.token_ids), tuple(logprobs), tuple(margins), is_finite)
