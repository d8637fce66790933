from __future__ import annotations

import asyncio

import pytest

from serving.controller.background import keep_turning
from serving.controller.errors import RegistryUnavailable
from serving.controller.metrics import ControllerMetrics


async def turn_until_done(*ends: Exception | None) -> tuple[int, ControllerMetrics]:
    """Run turns that end so, one after the other, until the last is over; how many there were."""
    metrics, left, is_done = ControllerMetrics(), list(ends), asyncio.Event()

    async def turn() -> None:
        end = left.pop(0)
        if not left:
            is_done.set()
        if end is not None:
            raise end

    task = asyncio.create_task(keep_turning("capacity", turn, pause_seconds=0.0, metrics=metrics))
    await is_done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return len(ends) - len(left), metrics


def failures(metrics: ControllerMetrics) -> float | None:
    return metrics.registry.get_sample_value(
        "loraplane_background_failures_total", {"task": "capacity"}
    )


async def test_a_turn_that_fails_is_counted_and_the_next_one_comes() -> None:
    turns, metrics = await turn_until_done(None, ValueError("a bug"), None)

    assert (turns, failures(metrics)) == (3, 1.0)


async def test_a_registry_that_does_not_answer_is_no_failure() -> None:
    turns, metrics = await turn_until_done(RegistryUnavailable(reason="busy"), None)

    assert (turns, failures(metrics)) == (2, 0.0)
