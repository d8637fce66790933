"""Work that a controller process does again and again beside its loop: each turn stands alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from serving.controller.errors import RegistryUnavailable
from serving.controller.metrics import ControllerMetrics

log = structlog.get_logger()


async def keep_turning(
    name: str,
    turn: Callable[[], Awaitable[None]],
    *,
    pause_seconds: float,
    metrics: ControllerMetrics,
) -> None:
    """Run `turn`, pause, and so on until cancelled.

    A turn that fails is logged and counted, and the next one begins as if nothing had been: what a
    turn reads tells it all that it must know.
    """
    while True:
        try:
            await turn()
        except RegistryUnavailable as exc:
            log.warning("registry unavailable", task=name, reason=exc.fields["reason"])
        except Exception:
            metrics.background_failures.labels(name).inc()
            log.exception("turn failed", task=name)
        await asyncio.sleep(pause_seconds)
