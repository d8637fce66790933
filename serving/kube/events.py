"""Kubernetes Events: what happened to an object, for `kubectl describe` and `kubectl get events`.

They are told after the fact and may be lost: a failure to write one is logged and disturbs nobody.
The same again within a while becomes a series of one Event, not another Event.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from serving.kube.cluster import Cluster
from serving.kube.errors import KubeError, KubeNotFound
from serving.kube.kinds import WRITTEN_EVENTS, Json, Kind
from serving.kube.lora_status import condition_of

COMPONENT = "loraplane.dev/controller"
SERIES_SECONDS = 360.0
"""The same after so long is news again; as other components do."""
_MAX_NOTE = 1000
_MAX_REMEMBERED = 2048
_MAX_INSTANCE = 128

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing to tell. `reason` is CamelCase and stable."""

    reason: str
    note: str
    is_warning: bool = False
    action: str = "Reconcile"


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last_at: float


class EventRecorder:
    """Writes Events of one namespace."""

    def __init__(self, cluster: Cluster, *, instance: str, clock: Callable[[], float]) -> None:
        """`instance`: which controller, e.g. its pod's name."""
        self._cluster, self._clock = cluster, clock
        self._instance = instance[:_MAX_INSTANCE] or "controller"
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()

    async def tell(self, kind: Kind, regarding: Json, happening: Happening) -> None:
        """Tell that something happened to an object, given as the API server has it."""
        facts = regarding["metadata"]
        key = (str(facts["uid"]), happening.reason, happening.note)
        try:
            await self._write(key, _reference(kind, regarding), happening)
        except KubeError as exc:
            log.warning("event lost", reason=happening.reason, object=facts["name"], error=str(exc))

    async def _write(
        self, key: tuple[str, str, str], regarding: Json, happening: Happening
    ) -> None:
        now, known = self._clock(), self._series.get(key)
        if known is not None and now - known.last_at < SERIES_SECONDS:
            known.count, known.last_at = known.count + 1, now
            series = {"count": known.count, "lastObservedTime": _micro_time(now)}
            try:
                await self._cluster.patch(WRITTEN_EVENTS, known.name, {"series": series})
            except KubeNotFound:
                # The API server keeps Events for an hour or less.
                del self._series[key]
            else:
                return
        body = _event(regarding, happening, key=key, now=now, instance=self._instance)
        await self._cluster.create(WRITTEN_EVENTS, body)
        self._series[key] = _Series(body["metadata"]["name"], 1, now)
        self._series.move_to_end(key)
        while len(self._series) > _MAX_REMEMBERED:
            self._series.popitem(last=False)


def _event(
    regarding: Json, happening: Happening, *, key: tuple[str, str, str], now: float, instance: str
) -> Json:
    token = hashlib.sha256("\0".join([*key, instance, repr(now)]).encode()).hexdigest()[:16]
    return {
        "metadata": {
            "name": f"{regarding['name'][:230]}.{token}",
            "namespace": regarding["namespace"],
        },
        "eventTime": _micro_time(now),
        "reportingController": COMPONENT,
        "reportingInstance": instance,
        "action": happening.action,
        "reason": happening.reason,
        "type": "Warning" if happening.is_warning else "Normal",
        "note": happening.note[:_MAX_NOTE],
        "regarding": regarding,
    }


def _reference(kind: Kind, body: Json) -> Json:
    # Of a list's items the API server leaves out what kind they are.
    facts = body["metadata"]
    names = {name: facts[name] for name in ("namespace", "name", "uid")}
    return {"apiVersion": kind.api_version, "kind": kind.kind, **names}


def _micro_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_OF_STATE = {
    "evaluating": ("Evaluating", "the gate measures it"),
    "passed": ("Passed", "the gate says PASS"),
    "staging": ("Staging", "engines are loading and proving it"),
    "live": ("Live", "it answers its tenant's requests"),
    "superseded": ("Superseded", "another version answers now"),
    "retired": ("Retired", "it takes no new requests"),
}


def tell_transition(before: Json, after: Json) -> list[Happening]:
    """What a LoraAdapter's status newly says, oldest first. Pure."""
    told: list[Happening] = []
    version = after.get("version")
    if version is not None and version != before.get("version"):
        note = f"version {version} ({after.get('digest')}) is registered"
        told.append(Happening("Registered", note, action="Register"))
    state = str(after.get("state"))
    is_new = (version, state) != (before.get("version"), before.get("state"))
    if is_new and state in _OF_STATE:
        reason, text = _OF_STATE[state]
        told.append(Happening(reason, f"version {version}: {text}"))
    failure, old = after.get("failure"), before.get("failure") or {}
    if failure and (is_new or failure != old):
        told.append(Happening(failure["reason"], failure["message"], is_warning=True))
    accepted = condition_of(after, "Accepted")
    if accepted.get("status") == "True" and condition_of(before, "Accepted").get("status") == (
        "False"
    ):
        told.insert(0, Happening("Accepted", accepted["message"]))
    return told
