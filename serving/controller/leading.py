"""What runs only while this process leads: the loop and its companions, lead by lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from serving.controller.context import ControllerContext
from serving.controller.errors import Deposed, RegistryUnavailable
from serving.controller.loop import ControllerLoop
from serving.controller.steps.metrics import StepMetrics
from serving.controller.surroundings import Companion, Surroundings

_PAUSE_SECONDS = 1.0
_PAUSE_SECONDS_MAX = 60.0
_HEALTHY_SECONDS = 60.0
"""A companion that ran so long before it failed is begun again as soon as after a first failure."""

log = structlog.get_logger()


class Bell:
    """Rings the loop, while there is one."""

    def __init__(self) -> None:
        self._target: Callable[[], None] | None = None

    def connect(self, target: Callable[[], None] | None) -> None:
        """From now on `target` hears it; None: nobody does."""
        self._target = target

    def __call__(self) -> None:
        """Something may be due."""
        if self._target is not None:
            self._target()


class Leading:
    """Runs what the leader does, in its surroundings."""

    def __init__(self, context: ControllerContext, surroundings: Surroundings, bell: Bell) -> None:
        """Nothing runs yet; the steps' metrics exist from now on, whoever leads."""
        self._context, self._surroundings, self._bell = context, surroundings, bell
        self._steps = StepMetrics(context.metrics.registry)
        for companion in surroundings.companions:
            context.metrics.background_failures.labels(companion.name)

    async def run(self) -> None:
        """Lead whenever it is this process's turn, until cancelled."""
        await self._surroundings.leadership.lead(self._lead)

    async def _lead(self, term: int | None) -> None:
        metrics = self._context.metrics
        try:
            if term is not None:
                await self._context.repository.leadership.take(term)
            log.info("leading", term=term)
            metrics.begin_lead()
            await self._work(term)
        except* Deposed as group:
            log.warning("deposed", term=term, reason=str(group.exceptions[0]))
        finally:
            self._bell.connect(None)
            metrics.end_lead()

    async def _work(self, term: int | None) -> None:
        led = replace(self._context, repository=self._context.repository.under(term))
        make = self._surroundings.reference
        loop = ControllerLoop(led, reference=make(led) if make else None, metrics=self._steps)
        self._bell.connect(loop.hint)
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.run())
            for companion in self._surroundings.companions:
                group.create_task(self._keep_running(companion, led))

    async def _keep_running(self, companion: Companion, led: ControllerContext) -> None:
        clock, tries = asyncio.get_running_loop().time, 0
        while True:
            began = clock()
            try:
                await companion.run(led)
                log.warning("companion ended", companion=companion.name)
            except Deposed:
                raise
            except RegistryUnavailable as exc:
                log.warning(
                    "registry unavailable", task=companion.name, reason=exc.fields["reason"]
                )
            except Exception:
                led.metrics.background_failures.labels(companion.name).inc()
                log.exception("companion failed", companion=companion.name)
            tries = 0 if clock() - began > _HEALTHY_SECONDS else tries + 1
            await asyncio.sleep(min(_PAUSE_SECONDS * 2.0 ** min(tries, 10), _PAUSE_SECONDS_MAX))
