"""The LoraAdapters that there are, and what this process knows of each beyond the registry. No I/O.

What is kept here may be lost with the process: a new leader looks at every source once, and is as
wise again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.kube.key_queue import KeyQueue
from serving.kube.kinds import Json
from serving.kube.lora_adapter import (
    Problem,
    Resource,
    Standing,
    choose_owners,
    find_problem,
    parse_resource,
)
from serving.kube.lora_status import condition_of
from serving.kube.lora_view import RegistryView
from serving.kube.mirror import Mirror


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why the last look at an object's source failed, and until when it is left alone."""

    generation: int
    problem: Problem
    until: float


class LoraObjects:
    """Objects by name, as `refresh` last read them from the mirror."""

    def __init__(
        self, mirror: Mirror, queue: KeyQueue, *, clock: Callable[[], float], poll_seconds: float
    ) -> None:
        """`clock`: monotonic. `poll_seconds`: how often a source is asked whether it changed."""
        self._mirror, self._queue = mirror, queue
        self._clock, self._poll_seconds = clock, poll_seconds
        self._seen: dict[str, str] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._looked_at: dict[str, float] = {}
        self.resources: dict[str, Resource] = {}
        self.owners: dict[tuple[str, str], Resource] = {}
        """By (tenant, adapter), who manages it."""

    def refresh(self) -> bool:
        """Queue objects that are new or other than they were; whether any is gone."""
        present = {
            name: str(body["metadata"].get("resourceVersion"))
            for name, body in self._mirror.objects.items()
        }
        changed = {name for name, seen in present.items() if self._seen.get(name) != seen}
        lost = self._seen.keys() - present.keys()
        if not changed and not lost:
            return False
        for name in lost:
            self._forget(self.resources.pop(name))
        for name in changed:
            self._replace(name, parse_resource(self._mirror.objects[name]))
        self._seen = present
        before, self.owners = self.owners, choose_owners(self.resources.values())
        moved = {
            key
            for key in before.keys() | self.owners.keys()
            if _uid(before.get(key)) != _uid(self.owners.get(key))
        }
        for name, resource in self.resources.items():
            if name in changed or (resource.wanted and resource.wanted.key in moved):
                self._queue.add(name)
        return bool(lost)

    def body(self, resource: Resource) -> Json | None:
        """The object as the API server last told it; None: gone, or another of that name."""
        body = self._mirror.objects.get(resource.name)
        return body if body is not None and body["metadata"]["uid"] == resource.uid else None

    def holds(self, uid: str) -> bool:
        """Whether an object with this uid is there."""
        return any(resource.uid == uid for resource in self.resources.values())

    def standing(self, resource: Resource, view: RegistryView) -> Standing:
        """What decides about an object besides itself."""
        wanted = resource.wanted
        looked_at = self._looked_at.get(resource.uid)
        return Standing(
            has_tenant=wanted is not None and wanted.tenant in view.tenants,
            owner=self.owners.get(wanted.key) if wanted is not None else None,
            record=view.records.get(wanted.key) if wanted is not None else None,
            is_look_due=looked_at is None or self._clock() - looked_at >= self._poll_seconds,
        )

    def looked(self, resource: Resource, problem: Problem | None) -> None:
        """Its source was looked at; with a problem it is left alone, longer each time."""
        self._looked_at[resource.uid] = self._clock()
        if problem is None:
            self._troubles.pop(resource.uid, None)
            self._queue.forget_failures(_source(resource.name))
            self._queue.add_later(resource.name, self._poll_seconds)
        else:
            self.trouble(resource, problem)

    def trouble(self, resource: Resource, problem: Problem) -> None:
        """Remember why it cannot be gone on with, and come back later."""
        known = self._troubles.get(resource.uid)
        if known is not None and known.generation != resource.generation:
            self._queue.forget_failures(_source(resource.name))
        pause = self._queue.pause_seconds(_source(resource.name))
        until = self._clock() + pause
        self._troubles[resource.uid] = _Trouble(resource.generation, problem, until)
        self._queue.add_later(resource.name, pause)

    def is_left_alone(self, resource: Resource) -> bool:
        """Whether its source was found in trouble a moment ago; it is queued for later then."""
        trouble = self._troubles.get(resource.uid)
        if trouble is None or trouble.generation != resource.generation:
            return False
        if (left := trouble.until - self._clock()) <= 0:
            return False
        self._queue.add_later(resource.name, left)
        return True

    def problem(self, resource: Resource, before: Json, view: RegistryView) -> Problem | None:
        """Why this generation is not accepted, as far as is known; `before`: the present status."""
        found = find_problem(resource, self.standing(resource, view))
        if found is not None:
            return found
        record = view.record_of(resource)
        if record is not None and record.generation == resource.generation:
            return None
        trouble = self._troubles.get(resource.uid)
        if trouble is not None and trouble.generation == resource.generation:
            return trouble.problem
        if resource.uid in self._looked_at:
            return None
        # A new leader repeats what the last one said, until it has looked itself.
        return _said_trouble(resource, before)

    def _replace(self, name: str, resource: Resource) -> None:
        before = self.resources.get(name)
        if before is not None and before.uid != resource.uid:
            self._forget(before)
        self.resources[name] = resource

    def _forget(self, resource: Resource) -> None:
        self._troubles.pop(resource.uid, None)
        self._looked_at.pop(resource.uid, None)
        self._queue.forget_failures(resource.name)
        self._queue.forget_failures(_source(resource.name))


def _said_trouble(resource: Resource, before: Json) -> Problem | None:
    accepted = condition_of(before, "Accepted")
    is_said = accepted.get("observedGeneration") == resource.generation
    if accepted.get("status") != "False" or not is_said or accepted.get("reason") in _COMPUTED:
        return None
    return Problem(str(accepted.get("reason")), str(accepted.get("message")))


_COMPUTED = frozenset({"Conflict", "TenantNotFound", "InvalidSpec"})
"""Reasons that need no look at the source: they are known to be over."""


def _uid(resource: Resource | None) -> str | None:
    return None if resource is None else resource.uid


def _source(name: str) -> str:
    """The key under which failures of an object's source are counted."""
    return f"source:{name}"
