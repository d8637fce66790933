"""Entry points that vLLM calls; cheap, idempotent, and free of vLLM until they are called."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """`vllm.general_plugins`: runs in every vLLM process, before workers and engine are built."""
    from serving.engine.compat.install import install

    install()


def endpoint_plugin() -> Any:
    """`vllm.endpoint_plugins`: connects the API server to our runtime before its socket opens."""
    from serving.engine.compat.server import LoraplaneEndpoints

    return LoraplaneEndpoints()
