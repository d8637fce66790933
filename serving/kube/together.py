"""Tasks of one companion that stand or fall together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import Counter

from serving.controller.errors import Deposed
from serving.kube.errors import KubeError, KubeExpired


async def run_together(*works: Coroutine[Any, Any, None]) -> None:
    """Run until cancelled; none goes on once another has failed.

    Raises:
        Deposed: another controller leads by now.
        ExceptionGroup: of whatever else a task raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as failed:
        raise _first_deposed(failed) or failed from None


def counted_in(failures: Counter, task: str) -> Callable[[KubeError], None]:
    """For a mirror of `task`: counts the tries at which the API server could not be followed.

    A history that was forgotten is none: the server says so in good order, and it is listed again.
    """
    counter = failures.labels(task)

    def count(error: KubeError) -> None:
        if not isinstance(error, KubeExpired):
            counter.inc()

    return count


def _first_deposed(group: BaseExceptionGroup[Exception]) -> Deposed | None:
    for item in group.exceptions:
        found = _first_deposed(item) if isinstance(item, BaseExceptionGroup) else item
        if isinstance(found, Deposed):
            return found
    return None
