"""A profile and the settings as vLLM's command line and environment. Knows names, imports nothing.

tests/unit/engine/test_vllm_flags.py asks the installed vLLM's parser whether the names are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving.engine.profile import EngineProfile
from serving.settings import EngineSettings

MODULE = "vllm.entrypoints.launchers.api_server.entry"
"""Started with `python -m`: the command `vllm` does not run with the CPU build, and this entry
always has one API server, so one table of adapters."""

MIDDLEWARE = "serving.engine.tenancy.TenancyMiddleware"
WORKER_EXTENSION = "serving.engine.compat.worker.WorkerExtension"

WITHHELD = (
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_SERVER_DEV_MODE",
    "VLLM_SKIP_MODEL_NAME_VALIDATION",
    "VLLM_ENABLE_RESPONSES_API_STORE",
    "VLLM_API_KEY",
    "PROMETHEUS_MULTIPROC_DIR",
)
"""Variables that would open routes past our door, or hide our metrics."""


def vllm_arguments(profile: EngineProfile, settings: EngineSettings) -> list[str]:
    """Everything after `python -m MODULE`."""
    return [
        *_server(profile, settings),
        *_adapters(profile),
        *_scheduling(profile),
        *profile.extra_arguments,
    ]


def _server(profile: EngineProfile, settings: EngineSettings) -> list[str]:
    flags = [
        *("--model", profile.model, "--served-model-name", settings.fleet),
        *("--host", settings.host, "--port", str(settings.engine_port)),
        *("--middleware", MIDDLEWARE, "--worker-extension-cls", WORKER_EXTENSION),
        *("--dtype", profile.dtype),
        # The model's own generation_config would change sampling defaults behind the client's back.
        *("--generation-config", "vllm"),
        *("--shutdown-timeout", str(profile.shutdown_timeout_seconds)),
        "--disable-fastapi-docs",
        *(
            "--disable-access-log-for-endpoints",
            "/health,/ready,/metrics,/loraplane/v1/trace,/loraplane/v1/drain",
        ),
    ]
    if profile.enforce_eager:
        flags.append("--enforce-eager")
    if profile.chat_template is not None:
        flags += ["--chat-template", profile.chat_template]
    return flags + _optional("--max-model-len", profile.max_model_len)


def _adapters(profile: EngineProfile) -> list[str]:
    return [
        "--enable-lora",
        *("--max-loras", str(profile.gpu_slots), "--max-cpu-loras", str(profile.cpu_slots)),
        *("--max-lora-rank", str(profile.max_rank)),
        *("--lora-target-modules", *profile.target_modules),
    ]


def _scheduling(profile: EngineProfile) -> list[str]:
    chunked = "--enable-chunked-prefill"
    return [
        chunked if profile.enable_chunked_prefill else chunked.replace("--", "--no-", 1),
        *_optional("--max-num-batched-tokens", profile.max_num_batched_tokens),
        *_optional("--long-prefill-token-threshold", profile.prefill_threshold),
        *_optional("--max-num-seqs", profile.max_num_seqs),
        # Without it vLLM takes requests in order of arrival, whatever their class.
        *("--scheduling-policy", "priority" if profile.is_gate_last else "fcfs"),
    ]


def _optional(flag: str, value: int | None) -> list[str]:
    return [] if value is None else [flag, str(value)]


def vllm_environment(
    profile: EngineProfile, settings: EngineSettings, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the engine's processes."""
    environment = {name: value for name, value in inherited.items() if name not in WITHHELD}
    environment.update(settings.to_environment())
    environment.update(
        VLLM_PLUGINS="loraplane",
        # Per request, the number of NaN in its logits: how a poisonous adapter is found.
        VLLM_COMPUTE_NANS_IN_LOGITS="1",
        VLLM_NO_USAGE_STATS="1",
    )
    if Path(profile.model).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if profile.kv_cache_gib is not None:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(profile.kv_cache_gib)
    return environment
