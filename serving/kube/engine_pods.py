"""What pods say of the engines in them: who is about to end, and who will never come back.

An engine has its pod's name. A pod that is being deleted is noted, so that no switch waits for its
engine and the gate does not choose it. An engine is forgotten once its StatefulSet has no place for
it any more, its pod is gone, and it has gone silent; unreachable alone is never enough.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from serving.controller.context import ControllerContext
from serving.controller.errors import Deposed, NotFound, RegistryUnavailable
from serving.controller.registry.fleet import ObservedEngine
from serving.kube.cluster import PODS, STATEFUL_SETS, Cluster
from serving.kube.errors import KubeError, KubeNotFound
from serving.kube.kinds import Json
from serving.kube.mirror import Mirror
from serving.kube.together import counted_in, run_together

NAME = "engine_pods"
"""Of this companion, in logs and metrics."""
ACTOR = "kubernetes"
_TICK_SECONDS = 5.0
_ORDINAL = re.compile(r"0|[1-9][0-9]{0,8}")
_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What the pods make new. Engine ids."""

    leaving: tuple[str, ...] = ()
    staying: tuple[str, ...] = ()
    """Noted as leaving, but its pod is there, ready, and not being deleted."""
    homeless: tuple[str, ...] = ()
    """Without a pod, and silent: gone for good if its StatefulSet has no place for it."""


def plan_pods(
    pods: Mapping[str, Json],
    engines: Iterable[ObservedEngine],
    *,
    statefulset: str,
    now: float,
    timeout_seconds: float,
) -> PodPlan:
    """Compare ALL of the fleet's pods, by name, with the engines that the registry knows. Pure."""
    leaving, staying, homeless = [], [], []
    for engine in engines:
        name = engine.report.engine_id
        pod = pods.get(name)
        if pod is None:
            is_silent = not engine.is_reachable(now, timeout_seconds)
            if is_silent and ordinal_of(name, statefulset) is not None:
                homeless.append(name)
        elif pod["metadata"].get("deletionTimestamp") is not None:
            if not engine.is_leaving:
                leaving.append(name)
        elif engine.is_leaving and _is_ready(pod):
            staying.append(name)
    return PodPlan(tuple(leaving), tuple(staying), tuple(homeless))


def ordinal_of(pod: str, statefulset: str) -> int | None:
    """The number of a StatefulSet's pod; None: it is none of its pods. Pure."""
    head, _, tail = pod.rpartition("-")
    if head != statefulset or _ORDINAL.fullmatch(tail) is None:
        return None
    return int(tail)


def has_place(statefulset: Json, ordinal: int) -> bool:
    """Whether a StatefulSet wants a pod with this number; one that is being deleted may. Pure."""
    if statefulset["metadata"].get("deletionTimestamp") is not None:
        # Deleted and made again is how some of its fields are changed: nobody has left for good.
        return True
    spec = statefulset.get("spec") or {}
    first = int((spec.get("ordinals") or {}).get("start") or 0)
    replicas = spec.get("replicas")
    return first <= ordinal < first + (1 if replicas is None else int(replicas))


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


async def run_engine_pods(
    context: ControllerContext, cluster: Cluster, selector: str, statefulset: str
) -> None:
    """Follow the engines' pods until cancelled.

    `selector`: the label selector of all of them; `statefulset`: whose pods they are.

    Raises:
        Deposed: another controller leads by now.
    """
    failures = counted_in(context.metrics.background_failures, NAME)
    mirror = Mirror(cluster, PODS, selector, on_failure=failures)
    watch = EnginePods(context, cluster, mirror, statefulset)
    await run_together(mirror.run(), _follow(context, mirror, watch))


async def _follow(context: ControllerContext, mirror: Mirror, watch: EnginePods) -> None:
    while True:
        seen = mirror.n_changes
        if mirror.is_synced:
            await _guarded(context, watch)
        await mirror.wait_change(_TICK_SECONDS, seen=seen)
        await asyncio.sleep(_PAUSE_SECONDS / 10)


async def _guarded(context: ControllerContext, watch: EnginePods) -> None:
    try:
        await watch.turn()
    except Deposed:
        raise
    except (RegistryUnavailable, KubeError) as exc:
        log.warning("put off", task=NAME, reason=str(exc))
        await asyncio.sleep(_PAUSE_SECONDS)
    except Exception:
        context.metrics.background_failures.labels(NAME).inc()
        log.exception("turn failed", task=NAME)
        await asyncio.sleep(_PAUSE_SECONDS)


class EnginePods:
    """One fleet's pods."""

    def __init__(
        self, context: ControllerContext, cluster: Cluster, mirror: Mirror, statefulset: str
    ) -> None:
        """`mirror` is followed by somebody else."""
        self._context, self._cluster = context, cluster
        self._mirror, self._statefulset = mirror, statefulset

    async def turn(self) -> None:
        """Note what is new. Only with a mirror that is synced.

        Raises:
            RegistryError, KubeError: try again.
        """
        fleet = self._context.repository.fleet
        plan = plan_pods(
            self._mirror.objects,
            await fleet.engines(),
            statefulset=self._statefulset,
            now=self._context.clock(),
            timeout_seconds=self._context.settings.engine_timeout_seconds,
        )
        if (plan.leaving or plan.staying) and await fleet.mark_leaving(plan.leaving, plan.staying):
            log.info("engines are leaving", leaving=plan.leaving, staying=plan.staying)
            self._context.hint()
        for name in plan.homeless:
            await self._forget_if_gone(name)

    async def _forget_if_gone(self, name: str) -> None:
        ordinal = ordinal_of(name, self._statefulset)
        if ordinal is None or await self._has_place(ordinal) or await self._has_pod(name):
            return
        reason = f"StatefulSet {self._statefulset} has no place for it, and its pod is gone"
        try:
            await self._context.repository.fleet.forget_engine(name, actor=ACTOR, reason=reason)
        except NotFound:
            return
        log.info("engine forgotten", engine=name)
        self._context.hint()

    async def _has_place(self, ordinal: int) -> bool:
        try:
            found = await self._cluster.get(STATEFUL_SETS, self._statefulset)
        except KubeNotFound:
            # Uninstalled, renamed, or made anew right now: says nothing about its engines.
            return True
        return has_place(found, ordinal)

    async def _has_pod(self, name: str) -> bool:
        # Asked once more: a pod that lost its labels is not in the mirror.
        try:
            await self._cluster.get(PODS, name)
        except KubeNotFound:
            return False
        return True
