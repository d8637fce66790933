"""The door to Kubernetes: a few verbs on plain JSON objects of one namespace.

Every call is bounded in time and size and raises errors of `serving.kube.errors` only. What is
watched over time is kept by `serving.kube.mirror`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.kube.connection import Connection, namespace_of_pod
from serving.kube.errors import (
    KubeConflict,
    KubeExpired,
    KubeNotFound,
    KubeTooMuch,
    KubeUnreachable,
    refusal,
)
from serving.kube.kinds import (
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LEASES,
    LORA_ADAPTERS,
    PODS,
    SECRETS,
    STATEFUL_SETS,
    Json,
    Kind,
)

__all__ = [
    "CONFIG_MAPS",
    "Change",
    "Cluster",
    "EVENTS",
    "JOBS",
    "Json",
    "Kind",
    "LEASES",
    "LORA_ADAPTERS",
    "Listing",
    "PODS",
    "SECRETS",
    "STATEFUL_SETS",
]

REQUEST_SECONDS = 10.0
_PAGE = 500
_MAX_OBJECTS = 20_000
"""Arbitrary: far above the adapters of one fleet, far below what would fill the memory."""
_MAX_RESTARTS = 3
_LOG_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind at one moment."""

    items: list[Json]
    resource_version: str
    """A watch goes on from here."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch tells."""

    type: str
    """`ADDED`, `MODIFIED`, `DELETED`, or `BOOKMARK`: only the resource version is new."""
    object: Json


class Cluster:
    """One namespace of a Kubernetes cluster."""

    def __init__(
        self, connection: Connection, *, namespace: str, request_seconds: float = REQUEST_SECONDS
    ) -> None:
        """Use `Cluster.connect`."""
        self.namespace = namespace
        self._connection, self._request_seconds = connection, request_seconds

    @classmethod
    async def connect(
        cls,
        *,
        namespace: str | None = None,
        kubeconfig: Path | None = None,
        request_seconds: float = REQUEST_SECONDS,
    ) -> Cluster:
        """As the pod's service account, or with a kubeconfig; nothing is asked of the server yet.

        `namespace`: by default the pod's own, outside of a pod `default`. `request_seconds`: how
        long one call may take; a watch has a time of its own.

        Raises:
            KubeConfigInvalid: there is no way to an API server that may be used.
        """
        connection = await Connection.open(kubeconfig)
        return cls(
            connection,
            namespace=namespace or namespace_of_pod() or "default",
            request_seconds=request_seconds,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.close()

    async def get(self, kind: Kind, name: str) -> Json:
        """One object.

        Raises:
            KubeNotFound: there is none.
            KubeError: any other of the tree; so do all verbs here.
        """
        return await self._json("GET", kind.path(self.namespace, name))

    async def list(
        self, kind: Kind, *, labels: str | None = None, fields: str | None = None
    ) -> Listing:
        """All objects that the label and field selectors take, in pages, as of one moment.

        Raises:
            KubeTooMuch: there are more than this program could have a use for.
        """
        restarts = 0
        while True:
            try:
                return await self._list_pages(kind, labels, fields)
            except KubeExpired:
                # The list took so long that its moment is forgotten; only a new one is whole.
                restarts += 1
                if restarts > _MAX_RESTARTS:
                    raise

    async def create(self, kind: Kind, body: Json) -> Json:
        """Make an object; as stored.

        Raises:
            KubeAlreadyExists: the name is taken.
            KubeInvalid: the object is not accepted.
        """
        return await self._json("POST", kind.path(self.namespace), body=_whole(kind, body))

    async def replace(self, kind: Kind, body: Json) -> Json:
        """Write a whole object back; as stored.

        Raises:
            KubeConflict: it was changed since the `resourceVersion` in it.
            KubeNotFound: it is gone.
        """
        path = kind.path(self.namespace, body["metadata"]["name"])
        return await self._json("PUT", path, body=_whole(kind, body))

    async def patch(self, kind: Kind, name: str, patch: Json) -> Json:
        """Merge `patch` into an object (RFC 7396: null removes); as stored.

        Raises:
            KubeConflict: the patch names a `resourceVersion` that is not the present one.
            KubeNotFound: there is none.
        """
        return await self._json("PATCH", kind.path(self.namespace, name), body=patch)

    async def patch_status(
        self, kind: Kind, name: str, status: Json, *, resource_version: str | None = None
    ) -> Json:
        """Merge into an object's status; as stored.

        Raises:
            KubeConflict: `resource_version` is given and is not the present one.
            KubeNotFound: there is none.
        """
        patch: Json = {"status": status}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        return await self._json("PATCH", kind.path(self.namespace, name, "status"), body=patch)

    async def delete(
        self, kind: Kind, name: str, *, uid: str | None = None, propagation: str = "Background"
    ) -> None:
        """Remove an object; one that is gone already, or replaced since `uid`, is fine."""
        options: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._json("DELETE", kind.path(self.namespace, name), body=options)
        except KubeNotFound:
            return
        except KubeConflict:
            if uid is None or not await self._is_replaced(kind, name, uid):
                raise

    async def log_tail(self, pod: str, *, container: str | None = None, lines: int = 50) -> str:
        """The last lines that a pod's container wrote, at most 64 KiB.

        Raises:
            KubeNotFound, KubeInvalid: there is no such pod, or it has not begun to run.
        """
        raw = await self._connection.read(
            "GET",
            PODS.path(self.namespace, pod, "log"),
            query={"container": container, "tailLines": lines, "limitBytes": _LOG_BYTES},
            timeout_seconds=self._request_seconds,
        )
        return raw.decode(errors="replace")

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        labels: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> AsyncGenerator[Change, None]:
        """What changes after `resource_version`, until the server ends the watch in good order.

        A server that goes silent is given up soon after `timeout_seconds`.

        Raises:
            KubeExpired: the resource version is too old; list again.
            KubeUnreachable: the watch broke; it may be resumed from the last change seen.
        """
        lines = self._connection.lines(
            kind.path(self.namespace),
            query={
                "watch": "1",
                "resourceVersion": resource_version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": max(int(timeout_seconds), 1),
                "labelSelector": labels,
            },
            timeout_seconds=timeout_seconds,
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield _change(line)

    async def _list_pages(self, kind: Kind, labels: str | None, fields: str | None) -> Listing:
        items: list[Json] = []
        token: str | None = None
        while True:
            page = await self._json(
                "GET",
                kind.path(self.namespace),
                query={
                    "limit": _PAGE,
                    "continue": token,
                    "labelSelector": labels,
                    "fieldSelector": fields,
                },
            )
            items += page.get("items") or []
            if len(items) > _MAX_OBJECTS:
                raise KubeTooMuch(what=kind.plural, limit=_MAX_OBJECTS)
            facts = page.get("metadata") or {}
            token = facts.get("continue") or None
            if token is None:
                return Listing(items, str(facts.get("resourceVersion") or ""))

    async def _is_replaced(self, kind: Kind, name: str, uid: str) -> bool:
        try:
            present = await self.get(kind, name)
        except KubeNotFound:
            return True
        return bool(present["metadata"].get("uid") != uid)

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Json | None = None,
    ) -> Json:
        return await self._connection.json(
            method, path, query=query, body=body, timeout_seconds=self._request_seconds
        )


def _whole(kind: Kind, body: Json) -> Json:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


def _change(line: bytes) -> Change:
    try:
        event = json.loads(line)
        change = Change(str(event["type"]), event["object"])
    except (ValueError, KeyError, TypeError) as exc:
        raise KubeUnreachable("a watch's line is not an event") from exc
    if change.type == "ERROR":
        raise refusal(int(change.object.get("code") or 500), change.object)
    return change
