"""Hooks in vLLM's API server process: one resolution per request, exact per-adapter statistics.

vLLM looks a request's model up in `BaseServing._check_model` (async, before tokenising) and again
in `BaseServing._maybe_get_adapters` (after). Ours resolves and admits in the first and repeats that
answer in the second, so an alias that moves in between cannot mix two versions.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import time
from functools import partial
from importlib.metadata import version
from typing import Any

import prometheus_client
import structlog
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.engine.serving import BaseServing
from vllm.v1.engine.output_processor import OutputProcessor

from serving.engine.compat.base_revision import base_revision
from serving.engine.compat.install import (
    WORKER_HOOKS,
    missing_hooks,
    require_tested_vllm,
)
from serving.engine.compat.port import QuarantinedRequest, VllmEngine
from serving.engine.ports import EngineDescription
from serving.engine.resolution import REFUSED_FIELDS
from serving.engine.runtime import EngineRuntime, set_runtime
from serving.engine.scope import find_scope
from serving.engine.series import FinishedRequest
from serving.engine.tenancy import RequestRefused, current_scope
from serving.engine.trace import Usage
from serving.settings import EngineSettings

_log = structlog.get_logger(__name__)
_REFUSED = frozenset(REFUSED_FIELDS)
_NO_FIELDS: dict[str, Any] = {}


class HooksMissing(RuntimeError):
    """The engine must not take traffic: without these hooks its promises do not hold."""

    def __init__(self, missing: dict[str, str]) -> None:
        self.missing = missing
        super().__init__(f"could not hook into vLLM: {missing}")


async def connect(engine_client: Any, state: Any) -> None:
    """Check version and hooks, install the API hooks, make the runtime, start the agent.

    Raises:
        VllmNotTested: vLLM is outside the tested range.
        HooksMissing: a hook could not be installed and was not left out on purpose.
    """
    settings = EngineSettings.from_environment()
    vllm = require_tested_vllm(allow_untested=settings.allow_untested_vllm)
    unhooked = await _find_unhooked(engine_client, settings)
    models: OpenAIServingModels = state.openai_serving_models
    engine = VllmEngine(
        engine_client,
        lambda: int(models.lora_id_counter.inc(1)),
        settings.facts_path,
        await asyncio.to_thread(_describe, state.vllm_config, _build(vllm, settings), unhooked),
    )
    runtime = EngineRuntime(settings, engine, registry=prometheus_client.REGISTRY)
    _hook_models(models, runtime)
    _hook_lookup(runtime, engine)
    _hook_statistics(engine_client.output_processor, runtime, engine)
    _hook_shutdown(engine_client, runtime)
    set_runtime(runtime)
    atexit.register(runtime.tracing.close)
    await runtime.start()


async def _find_unhooked(engine_client: Any, settings: EngineSettings) -> dict[str, str]:
    left_out = set(filter(None, settings.without_hooks.split(",")))
    unhooked = missing_hooks(["kv_zeroing"])
    for answer in await engine_client.collective_rpc("loraplane_hooks", args=(list(WORKER_HOOKS),)):
        unhooked.update(answer)
    if missing := {name: why for name, why in unhooked.items() if name not in left_out}:
        raise HooksMissing(missing)
    if unhooked:
        _log.warning("hooks are left out on purpose", unhooked=unhooked)
    return unhooked


def _build(vllm: str, settings: EngineSettings) -> str:
    parts = [f"vllm {vllm}", f"loraplane {version('loraplane')}", settings.engine_build_label]
    return " / ".join(part for part in parts if part)


def _describe(vllm_config: Any, build: str, unhooked: dict[str, str]) -> EngineDescription:
    lora, model = vllm_config.lora_config, vllm_config.model_config
    return EngineDescription(
        build=build,
        dtype=str(model.dtype).removeprefix("torch."),
        has_priorities=vllm_config.scheduler_config.policy == "priority",
        gpu_slots=lora.max_loras,
        cpu_slots=lora.max_cpu_loras,
        max_rank=lora.max_lora_rank,
        max_model_len=model.max_model_len,
        base_revision=base_revision(model),
        unhooked=unhooked,
    )


def _hook_models(models: OpenAIServingModels, runtime: EngineRuntime) -> None:
    """`/v1/models` lists what this key may use; vLLM's own would list every tenant's adapters."""
    upstream_list = models.show_available_models

    async def show_available_models() -> Any:
        listed = await upstream_list()
        (card,) = listed.data[:1]
        listed.data = [
            card.model_copy(update={"id": name, "root": name, "parent": parent})
            for name, parent in runtime.listing(current_scope())
        ]
        return listed

    models.show_available_models = show_available_models


def _hook_lookup(runtime: EngineRuntime, engine: VllmEngine) -> None:
    async def check_model(self: BaseServing, request: Any) -> ErrorResponse | None:
        try:
            scope = current_scope()
            model, fields = request.model, _refusable_fields(request)
            if not runtime.try_admit(scope, model, fields):
                await runtime.admit(scope, model, fields)
        except RequestRefused as exc:
            return self.create_error_response(exc.message, exc.kind, exc.status, exc.param)
        if scope.answering_name() is None and scope.grant.tenant:
            # An adapter's blocks are keyed by its name; the base model's would be shared, and a hit
            # is visible in the time to the first token.
            request.cache_salt = scope.grant.tenant
        return None

    def adapter_of(
        _self: BaseServing, _request: Any, supports_default_mm_loras: bool = False
    ) -> Any:
        # The second parameter is vLLM's own hijack of base-model chats; it is never followed.
        name = current_scope().answering_name()
        return None if name is None else engine.lora_request(name)

    for name in ("_check_model", "_maybe_get_adapters"):
        getattr(BaseServing, name)
    BaseServing._check_model = check_model  # noqa: SLF001 - the hook point itself
    BaseServing._maybe_get_adapters = adapter_of  # noqa: SLF001


def _hook_shutdown(engine_client: Any, runtime: EngineRuntime) -> None:
    """On SIGTERM vLLM calls this in a thread, drains the engine and still takes requests.

    Ours turns new ones away first, with 503 and Retry-After (entrypoints/launchers/launcher.py).
    """
    loop = asyncio.get_running_loop()
    upstream = engine_client.shutdown

    def shutdown(*args: Any, **kwargs: Any) -> Any:
        loop.call_soon_threadsafe(runtime.drain)
        return upstream(*args, **kwargs)

    engine_client.shutdown = shutdown


def _refusable_fields(request: Any) -> dict[str, Any]:
    """Of what the client itself set, what may be refused: unknown fields are; defaults are not."""
    own, others = request.__pydantic_fields_set__, request.__pydantic_extra__
    if not others and _REFUSED.isdisjoint(own):
        return _NO_FIELDS
    return {
        **{name: getattr(request, name) for name in _REFUSED & own},
        **(others or {}),
    }


def _hook_statistics(
    processor: OutputProcessor, runtime: EngineRuntime, engine: VllmEngine
) -> None:
    """Per adapter, from the engine's own finished-request statistics; and NaN as it appears."""
    upstream_add = processor.add_request
    upstream_output = processor._update_stats_from_output  # noqa: SLF001
    upstream_finished = processor._update_stats_from_finished  # noqa: SLF001

    def add_request(request: Any, *args: Any, **kwargs: Any) -> None:
        # Called in the context of the HTTP request: so each part of it is known by its scope.
        upstream_add(request, *args, **kwargs)
        state = processor.request_states.get(request.request_id)
        if state is not None and (scope := find_scope()) is not None and scope.hold is not None:
            state.loraplane_hold = scope.hold
            scope.hold.open(state.request_id, partial(_usage, state))

    def on_output(state: Any, output: Any, timestamp: Any, stats: Any) -> None:
        upstream_output(state, output, timestamp, stats)
        if output.num_nans_in_logits > 0 and state.lora_name is not None:
            engine.mark_non_finite(state.lora_name)
            if state.queue is not None:
                state.queue.put(QuarantinedRequest(state.lora_name))
            runtime.hint()

    def on_finished(state: Any, reason: Any, stats: Any) -> None:
        upstream_finished(state, reason, stats)
        hold = getattr(state, "loraplane_hold", None)
        if hold is None or state.stats is None:
            return
        # A part whose client went away a while before is counted as aborted already.
        if hold.close(state.request_id) and not hold.is_gate:
            # Built when it is counted. Not of the state, which has the whole request.
            about = (state.lora_name, state.prompt_len, state.stats, reason, time.time())
            runtime.record_finished(partial(_finished, *about))

    processor.add_request = add_request
    processor._update_stats_from_output = on_output  # noqa: SLF001
    processor._update_stats_from_finished = on_finished  # noqa: SLF001


def _usage(state: Any) -> Usage:
    """What one part of a request has taken; several samples share one prompt."""
    is_first = state.parent_req is None or state.request_index == 0
    stats = state.stats
    return Usage(
        prompt_tokens=state.prompt_len if is_first else 0,
        completion_tokens=0 if stats is None else stats.num_generation_tokens,
        ttft_seconds=None if stats is None else stats.first_token_latency or None,
    )


def _finished(name: str, n_prompt: int, stats: Any, reason: Any, at: float) -> FinishedRequest:
    """From vLLM's RequestStateStats (v1/metrics/stats.py); its `_ts` are the core's monotonic."""
    n_tokens = stats.num_generation_tokens
    return FinishedRequest(
        name=name,
        prompt_tokens=n_prompt,
        completion_tokens=n_tokens,
        ttft_seconds=stats.first_token_latency or math.nan,
        e2e_seconds=at - stats.arrival_time,
        outcome=str(reason),
        inter_token_seconds=(
            (stats.last_token_ts - stats.first_token_ts) / (n_tokens - 1)
            if n_tokens > 1
            else math.nan
        ),
        slot_wait_seconds=stats.scheduled_ts - stats.queued_ts if stats.scheduled_ts else math.nan,
    )
