"""Entry points that vLLM calls; cheap, idempotent, and free of vLLM until they are called."""

from __future__ import annotations

from argparse import Namespace
from typing import Any


def register() -> None:
    """`vllm.general_plugins`: runs in every vLLM process, before workers and engine are built."""
    from serving.engine.compat.install import install

    install()


class EndpointPlugin:
    """`vllm.endpoint_plugins`: connects the API server to our runtime before its socket opens.

    vLLM logs and forgets a plugin that cannot be imported, but lets `init_state` fail the start. So
    all that could fail is imported there.
    """

    name = "loraplane"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Nothing: our own routes are answered by the middleware."""

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Connect; an error here keeps the server from starting.

        Raises:
            VllmNotTested, HooksMissing, ImportError: see `compat.server.connect`.
        """
        from serving.engine.compat.server import connect

        await connect(engine_client, state)
