"""Follows the LoraAdapters of a namespace while this process leads, and says in each how it stands.

One loop looks what may have changed and puts keys into a queue; workers take a key, compute from
what is there what to do (`lora_adapter`), and write the status where it says something new
(`lora_teller`). What may take long is done (`lora_deeds`) in a task beside them (`lora_looks`). An
object that cannot be served holds up none of the others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import structlog

from serving.controller.context import ControllerContext
from serving.controller.errors import Deposed, RegistryUnavailable
from serving.controller.registry.managed import ManagedAdapter
from serving.kube.cluster import Cluster
from serving.kube.errors import KubeError
from serving.kube.key_queue import KeyQueue
from serving.kube.kinds import LORA_ADAPTERS, Json
from serving.kube.lora_adapter import (
    Plan,
    Problem,
    Resource,
    actor_of,
    find_gone,
    parse_resource,
    plan_adapter,
)
from serving.kube.lora_deeds import LoraDeeds
from serving.kube.lora_looks import LoraLooks
from serving.kube.lora_objects import LoraObjects
from serving.kube.lora_teller import LoraTeller
from serving.kube.lora_view import RegistryView, read_view
from serving.kube.mirror import Mirror
from serving.kube.together import counted_in, run_together

NAME = "lora_adapters"
"""Of this companion, in logs and metrics."""
_N_WORKERS = 4
_TICK_SECONDS = 1.0
_SWEEP_SECONDS = 5.0
_SWEEP_FACTOR = 20.0
"""A look at everything pauses so many times as long as it took: 5 % of a core at most."""
_SWEEP_SLICE = 50
_DEBOUNCE_SECONDS = 0.1
_GONE = "gone:"
_AUDIT_PAGE = 500

log = structlog.get_logger()


async def run_lora_adapters(
    context: ControllerContext, cluster: Cluster, *, instance: str | None = None
) -> None:
    """Follow the namespace's LoraAdapters until cancelled.

    `instance`: this process's name in Events; by default the host's.

    Raises:
        Deposed: another controller leads by now.
    """
    await LoraAdapters(context, cluster, instance=instance or socket.gethostname()).run()


class LoraAdapters:
    """The LoraAdapters of one namespace."""

    def __init__(self, context: ControllerContext, cluster: Cluster, *, instance: str) -> None:
        """Nothing runs yet."""
        self._context, self._cluster = context, cluster
        self._selector = context.settings.lora_adapter_selector or None
        failures = counted_in(context.metrics.background_failures, NAME)
        self._mirror = Mirror(cluster, LORA_ADAPTERS, self._selector, on_failure=failures)
        self._queue = KeyQueue()
        self._objects = LoraObjects(
            self._mirror,
            self._queue,
            clock=asyncio.get_running_loop().time,
            poll_seconds=context.settings.source_poll_seconds,
        )
        self._deeds = LoraDeeds(context, cluster)
        self._teller = LoraTeller(context, cluster, self._objects, instance=instance)
        self._looks = LoraLooks(self._queue.add)
        self._last_audit: int | None = None
        self._sweep_at = 0.0

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Deposed: another controller leads by now.
        """
        workers = [self._work_for_ever() for _ in range(_N_WORKERS)]
        try:
            await run_together(
                self._looks.run(), self._mirror.run(), self._feed_for_ever(), *workers
            )
        finally:
            self._queue.close()

    async def _feed_for_ever(self) -> None:
        while True:
            seen = self._mirror.n_changes
            if self._mirror.is_synced:
                await self._guarded("", self._feed())
            await self._wait(seen)

    async def _wait(self, seen: int) -> None:
        waits = [
            asyncio.ensure_future(self._mirror.wait_change(_TICK_SECONDS, seen=seen)),
            asyncio.ensure_future(self._context.notifier.wait_change(_TICK_SECONDS)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        # Many changes come at once: one look for all of them.
        await asyncio.sleep(_DEBOUNCE_SECONDS)

    async def _feed(self) -> None:
        if self._objects.refresh():
            # What is remembered of an object that is gone is looked at now, not at the next turn.
            self._sweep_at = 0.0
        self._looks.keep_only(self._objects.resources)
        await self._feed_audited()
        now = asyncio.get_running_loop().time()
        if now >= self._sweep_at:
            await self._sweep()
            took = asyncio.get_running_loop().time() - now
            self._sweep_at = now + max(_SWEEP_SECONDS, _SWEEP_FACTOR * took)

    async def _feed_audited(self) -> None:
        """Queue the objects whose adapters something happened to since the last look."""
        audit = self._context.repository.audit
        if self._last_audit is None:
            latest = await audit.latest(limit=1)
            self._last_audit = latest[0].id if latest else 0
        while rows := await audit.after(self._last_audit, limit=_AUDIT_PAGE):
            self._last_audit = rows[-1].id
            moved = {row.subject.partition("@")[0] for row in rows}
            for (tenant, adapter), owner in self._objects.owners.items():
                if f"{tenant}/{adapter}" in moved:
                    self._queue.add(owner.name)

    async def _sweep(self) -> None:
        """Queue every object that has something to do or to say, and every record without one."""
        view = await self._view(None)
        for count, (name, resource) in enumerate([*self._objects.resources.items()]):
            if self._is_due(resource, view):
                self._queue.add(name)
            if count % _SWEEP_SLICE == 0:
                # Thousands of objects must not hold up a lease or a request.
                await asyncio.sleep(0)
        present = {resource.uid: resource for resource in self._objects.resources.values()}
        for record in find_gone(view.records.values(), present):
            if record.namespace == self._cluster.namespace:
                self._queue.add(_GONE + "/".join(record.key))

    def _is_due(self, resource: Resource, view: RegistryView) -> bool:
        if resource.is_leaving:
            return False
        plan = plan_adapter(resource, self._objects.standing(resource, view))
        if plan is Plan.LOOK and self._is_looked_at(resource):
            plan = Plan.REST
        return plan is not Plan.REST or self._teller.has_news(resource, view)

    def _is_looked_at(self, resource: Resource) -> bool:
        """Whether its source is being looked at, or was found in trouble a moment ago."""
        return self._looks.is_under_way(resource) or self._objects.is_left_alone(resource)

    async def _work_for_ever(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                work = self._release(key) if key.startswith(_GONE) else self._reconcile(key)
                if await self._guarded(key, work):
                    self._queue.forget_failures(key)
                else:
                    self._queue.add_later(key, self._queue.pause_seconds(key))
            finally:
                self._queue.done(key)

    async def _guarded(self, key: str, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it ended well; the only place here that catches what nobody expected."""
        try:
            await work
        except Deposed:
            raise
        except (RegistryUnavailable, KubeError) as exc:
            log.warning("put off", task=NAME, key=key, reason=str(exc))
        except Exception as exc:
            self._context.metrics.background_failures.labels(NAME).inc()
            log.exception("turn failed", task=NAME, key=key)
            if (resource := self._objects.resources.get(key)) is not None:
                problem = Problem(
                    "InternalError", f"{type(exc).__name__}: see the controller's log"
                )
                self._objects.trouble(resource, problem)
        else:
            return True
        return False

    async def _reconcile(self, name: str) -> None:
        resource = self._objects.resources.get(name)
        if resource is None or resource.is_leaving:
            return
        view = await self._view(resource)
        plan = plan_adapter(resource, self._objects.standing(resource, view))
        if plan is Plan.FOLLOW and resource.wanted is not None:
            await self._context.repository.managed.follow(
                *resource.wanted.key, self._deeds.manager(resource), actor=resource.actor
            )
            view = await self._view(resource)
            plan = plan_adapter(resource, self._objects.standing(resource, view))
        if plan is Plan.LOOK and not self._is_looked_at(resource):
            record = view.record_of(resource)
            self._looks.begin(resource, lambda: self._look(resource, record))
        await self._teller.say(resource, view)

    async def _look(self, resource: Resource, record: ManagedAdapter | None) -> None:
        key = f"look:{resource.name}"
        if await self._guarded(resource.name, self._look_once(resource, record)):
            self._queue.forget_failures(key)
        else:
            # Still under way, so that nobody looks again before that.
            await asyncio.sleep(self._queue.pause_seconds(key))

    async def _look_once(self, resource: Resource, record: ManagedAdapter | None) -> None:
        if resource.wanted is None:
            return
        is_registered = record is not None and record.generation == resource.generation
        looked = await self._deeds.look(resource, resource.wanted, record)
        problem = looked if isinstance(looked, Problem) else None
        self._objects.looked(resource, problem)
        if problem is not None and is_registered:
            # What is registered stays so; but the next version would not come.
            await self._teller.warn(resource, problem)

    async def _release(self, key: str) -> None:
        """Forget a record whose object is gone, and do what its deletion shall do."""
        tenant, _, adapter = key.removeprefix(_GONE).partition("/")
        record = await self._context.repository.managed.find(tenant, adapter)
        if record is None or self._objects.holds(record.uid):
            return
        if (owner := self._objects.owners.get(record.key)) is not None:
            # Another object wants the same adapter: it takes over, and nobody is cut off.
            self._queue.add(owner.name)
            return
        # Asked once more, for this one: what follows cannot be taken back.
        present = await self._teller.fetch(record.name)
        if present is not None and present["metadata"]["uid"] == record.uid:
            if self._selector is not None:
                # It is there, but no longer selected by its labels: its versions stay.
                await self._forget(record, retire=False)
        elif present is not None and await self._takes_over(present, record):
            # Made again: the mirror has only not told of it yet.
            self._queue.add_later(key, _TICK_SECONDS)
        else:
            await self._forget(record, retire=record.retires)

    async def _takes_over(self, present: Json, record: ManagedAdapter) -> bool:
        resource = parse_resource(present)
        if resource.is_leaving or resource.wanted is None or resource.wanted.key != record.key:
            return False
        if self._selector is None:
            return True
        only = f"metadata.name={record.name}"
        selected = await self._cluster.list(LORA_ADAPTERS, labels=self._selector, fields=only)
        return any(item["metadata"]["uid"] == resource.uid for item in selected.items)

    async def _forget(self, record: ManagedAdapter, *, retire: bool) -> None:
        actor = actor_of(record.namespace, record.name)
        retired = await self._context.repository.managed.release(record, actor=actor, retire=retire)
        log.info("object gone", object=actor, adapter="/".join(record.key), retired=retired)
        self._context.hint()

    async def _view(self, resource: Resource | None) -> RegistryView:
        keys = None
        if resource is not None:
            keys = [resource.wanted.key] if resource.wanted is not None else []
        return await read_view(
            self._context.repository,
            keys,
            now=self._context.clock(),
            timeout_seconds=self._context.settings.engine_timeout_seconds,
        )
