"""Writes LoraAdapters' statuses where they say something new, and tells what changed as Events."""

from __future__ import annotations

from serving.controller.context import ControllerContext
from serving.kube.cluster import Cluster
from serving.kube.errors import KubeConflict, KubeNotFound
from serving.kube.events import EventRecorder, Happening, tell_transition
from serving.kube.kinds import LORA_ADAPTERS, Json
from serving.kube.lora_adapter import Problem, Resource
from serving.kube.lora_objects import LoraObjects
from serving.kube.lora_status import diff_status, render_status
from serving.kube.lora_view import RegistryView

_MAX_CONFLICTS = 8


class LoraTeller:
    """Says in each object how it stands."""

    def __init__(
        self, context: ControllerContext, cluster: Cluster, objects: LoraObjects, *, instance: str
    ) -> None:
        """Nothing is said yet."""
        self._context, self._cluster, self._objects = context, cluster, objects
        self._events = EventRecorder(cluster, instance=instance, clock=context.clock)

    def has_news(self, resource: Resource, view: RegistryView) -> bool:
        """Whether the status that the object has is not the one that it should have."""
        body = self._objects.body(resource)
        return body is not None and self._render(resource, body, view)[1] is not None

    async def say(self, resource: Resource, view: RegistryView) -> None:
        """Write the status where it says something new; again where somebody wrote meanwhile.

        Raises:
            KubeError: it could not be written.
        """
        body = self._objects.body(resource)
        for left in reversed(range(_MAX_CONFLICTS)):
            if body is None or not _is_of(body, resource):
                # Gone, or another wish by now: that will be looked at as such.
                return
            after, patch = self._render(resource, body, view)
            if patch is None:
                return
            seen = body["metadata"]["resourceVersion"]
            try:
                await self._cluster.patch_status(
                    LORA_ADAPTERS, resource.name, patch, resource_version=seen
                )
            except KubeConflict:
                if not left:
                    raise
                body = await self.fetch(resource.name)
            except KubeNotFound:
                return
            else:
                for happening in tell_transition(body.get("status") or {}, after):
                    await self._events.tell(LORA_ADAPTERS, body, happening)
                return

    async def warn(self, resource: Resource, problem: Problem) -> None:
        """Tell of a problem that the status does not speak of."""
        body = self._objects.body(resource)
        if body is not None:
            happening = Happening(problem.reason, problem.message, is_warning=True)
            await self._events.tell(LORA_ADAPTERS, body, happening)

    async def fetch(self, name: str) -> Json | None:
        """The object as it is now; None: there is none.

        Raises:
            KubeError: the API server did not say.
        """
        try:
            return await self._cluster.get(LORA_ADAPTERS, name)
        except KubeNotFound:
            return None

    def _render(
        self, resource: Resource, body: Json, view: RegistryView
    ) -> tuple[Json, Json | None]:
        before: Json = body.get("status") or {}
        facts = view.facts(resource, self._objects.problem(resource, before, view))
        after = render_status(resource, facts, before=before, now=self._context.clock())
        return after, diff_status(before, after)


def _is_of(body: Json, resource: Resource) -> bool:
    facts = body["metadata"]
    found = (facts["uid"], int(facts.get("generation") or 0))
    return found == (resource.uid, resource.generation)
