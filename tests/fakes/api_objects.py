"""What the fake API server keeps: objects with resource versions, and the history of changes.

It earns its trust by the contract tests that a real API server passes too (tests/contract/kube).
"""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from serving.kube.kinds import Kind

Json = dict[str, Any]
Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""

WITH_STATUS = frozenset(
    {"pods", "jobs", "statefulsets", "deployments", "loraadapters", "namespaces"}
)


class Refused(Exception):
    """The request is answered with this Status."""

    def __init__(self, status: int, reason: str, message: str = "") -> None:
        self.status, self.reason, self.message = status, reason, message
        super().__init__(message)


@dataclass(frozen=True)
class Event:
    """One change, as watches tell it."""

    revision: int
    type: str
    key: Key
    object: Json
    before: Json | None


class Objects:
    """The state of the fake cluster."""

    def __init__(self) -> None:
        self.revision = 1
        self.oldest = 0
        """Changes up to this revision are forgotten."""
        self.changed = asyncio.Condition()
        self._objects: dict[Key, Json] = {}
        self._events: list[Event] = []

    def get(self, key: Key) -> Json:
        """A copy of one object."""
        if key not in self._objects:
            raise Refused(404, "NotFound", f'{key[1]} "{key[3]}" not found')
        return copy.deepcopy(self._objects[key])

    def all(self, group: str, plural: str, namespace: str) -> list[Json]:
        """Copies, by name; an empty namespace: of all."""
        return [
            copy.deepcopy(item)
            for key, item in sorted(self._objects.items())
            if key[:2] == (group, plural) and namespace in ("", key[2])
        ]

    def since(self, revision: int) -> list[Event]:
        """Changes after `revision`."""
        if revision < self.oldest:
            raise Refused(410, "Expired", "too old resource version")
        return [event for event in self._events if event.revision > revision]

    async def create(self, key: Key, body: Json) -> Json:
        """Add an object."""
        if key in self._objects:
            raise Refused(409, "AlreadyExists", f'{key[1]} "{key[3]}" already exists')
        fresh = copy.deepcopy(body)
        facts = fresh.setdefault("metadata", {})
        if facts.get("resourceVersion"):
            raise Refused(400, "BadRequest", "resourceVersion should not be set on a new object")
        facts |= {"name": key[3], "uid": str(uuid.uuid4()), "generation": 1}
        facts["creationTimestamp"] = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if key[2]:
            facts["namespace"] = key[2]
        if key[1] in WITH_STATUS:
            fresh.pop("status", None)
        return await self._store("ADDED", key, fresh, None)

    async def write(self, key: Key, wanted: Json, *, is_status: bool) -> Json:
        """Replace an object, or its status alone; nothing happens where nothing differs."""
        before = self.get(key)
        given = wanted.get("metadata", {}).get("resourceVersion")
        if given not in (None, "", before["metadata"]["resourceVersion"]):
            raise Refused(409, "Conflict", "the object has been modified")
        if given is None and wanted.get("metadata", {}).get("uid") not in (
            None,
            before["metadata"]["uid"],
        ):
            raise Refused(409, "Conflict", "the UID does not match")
        after = self._merged(before, wanted, is_status=is_status, plural=key[1])
        if after == before:
            return before
        return await self._store("MODIFIED", key, after, before)

    def _merged(self, before: Json, wanted: Json, *, is_status: bool, plural: str) -> Json:
        if is_status:
            return {**before, "status": wanted.get("status", {})}
        after = copy.deepcopy(wanted)
        if plural in WITH_STATUS:
            after.pop("status", None)
            after |= {"status": before["status"]} if "status" in before else {}
        kept = {
            name: before["metadata"][name]
            for name in ("name", "namespace", "uid", "creationTimestamp", "generation")
            if name in before["metadata"]
        }
        after["metadata"] = {**after.get("metadata", {}), **kept}
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] += 1
        return after

    async def delete(self, key: Key, uid: str | None) -> Json:
        """Remove an object."""
        before = self.get(key)
        if uid is not None and before["metadata"]["uid"] != uid:
            raise Refused(409, "Conflict", "the UID in the precondition does not match")
        del self._objects[key]
        gone = copy.deepcopy(before)
        return await self._publish("DELETED", key, gone, before)

    async def forget_history(self) -> None:
        """As etcd's compaction: old resource versions are too old from now on."""
        self.revision += 1
        self.oldest, self._events = self.revision, []
        async with self.changed:
            self.changed.notify_all()

    async def _store(self, kind: str, key: Key, fresh: Json, before: Json | None) -> Json:
        self._objects[key] = fresh
        return await self._publish(kind, key, fresh, before)

    async def _publish(self, kind: str, key: Key, fresh: Json, before: Json | None) -> Json:
        self.revision += 1
        fresh["metadata"]["resourceVersion"] = str(self.revision)
        shown = copy.deepcopy(fresh)
        self._events.append(Event(self.revision, kind, key, shown, before))
        async with self.changed:
            self.changed.notify_all()
        return copy.deepcopy(shown)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def selects(selector: str, item: Json) -> bool:
    """Whether an equality-based or `in`-free set-based label selector takes the object."""
    labels = item.get("metadata", {}).get("labels") or {}
    for term in filter(None, (part.strip() for part in selector.split(","))):
        if "!=" in term:
            name, value = (side.strip() for side in term.split("!=", 1))
            is_taken = labels.get(name) != value
        elif "=" in term:
            name, value = (side.strip() for side in term.replace("==", "=").split("=", 1))
            is_taken = labels.get(name) == value
        elif term.startswith("!"):
            is_taken = term[1:].strip() not in labels
        else:
            is_taken = term in labels
        if not is_taken:
            return False
    return True


def has_fields(selector: str, item: Json) -> bool:
    """Whether an equality-based field selector takes the object."""
    for term in filter(None, selector.split(",")):
        path, _, value = term.partition("=")
        found: Any = item
        for part in path.split("."):
            found = (found or {}).get(part)
        if found != value:
            return False
    return True


def key_of(kind: Kind, namespace: str, name: str) -> Key:
    """Where an object is kept."""
    return (kind.group, kind.plural, namespace if kind.namespaced else "", name)
