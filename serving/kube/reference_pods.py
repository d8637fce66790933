"""What a reference's Job and its pods say of themselves: ready, on the way, or given up. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.kube.kinds import Json

_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
_CONFIG = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
)


class Cause(enum.StrEnum):
    """Why there is nobody to ask yet: the reference's pod is or has been ..."""

    REFUSED = "refused"
    SUSPENDED = "suspended"
    UNSCHEDULABLE = "unschedulable"
    IMAGE = "without_image"
    CONFIG = "misconfigured"
    ENDED = "ended"
    STARTING = "starting"

    @property
    def is_stuck(self) -> bool:
        """More waiting alone rarely helps; a person has to change something."""
        return self in (Cause.IMAGE, Cause.CONFIG)


@dataclass(frozen=True, slots=True)
class Ready:
    """A pod that listens."""

    pod: str
    address: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not yet; `text` says why, in the cluster's own words where it has any."""

    cause: Cause
    text: str
    pod: str | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The Job makes no more pods; `pod` is the last one, where it is still there."""

    text: str
    pod: str | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """The Job has ended in good order, or is being deleted: another one is needed."""


Standing = Ready | Waiting | GivenUp | Over


def is_over(job: Json) -> bool:
    """Whether the Job makes no more pods, whatever the reason."""
    return bool(job["metadata"].get("deletionTimestamp")) or any(
        _condition(job, name) is not None for name in ("Complete", "Failed")
    )


def judge(job: Json, pods: Sequence[Json], *, refusal: str = "") -> Standing:
    """How a Job stands, by itself and its pods.

    `pods` may hold those of others. `refusal`: what an event says of a pod that could not be made.
    """
    own = sorted(
        (pod for pod in pods if _is_of(pod, job)),
        key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""),
    )
    last = own[-1] if own else None
    if (failed := _condition(job, "Failed")) is not None:
        return _given_up(failed, last)
    if is_over(job):
        return Over()
    living = [pod for pod in own if is_living(pod)]
    if living:
        return _standing_of(living[-1])
    if last is not None:
        text = f"{end_of(last) or f'pod {_name(last)} is ending'}; another pod is awaited"
        return Waiting(Cause.ENDED, text, _name(last))
    if job["spec"].get("suspend"):
        text = "its Job is suspended, as a queue does until there is room"
        return Waiting(Cause.SUSPENDED, text)
    if refusal:
        return Waiting(Cause.REFUSED, f"its pod was refused: {refusal}")
    return Waiting(Cause.STARTING, "its pod is awaited")


def is_living(pod: Json) -> bool:
    """Whether the pod runs, or may still come to run."""
    phase = _status(pod).get("phase")
    return phase not in ("Failed", "Succeeded") and not pod["metadata"].get("deletionTimestamp")


def end_of(pod: Json) -> str | None:
    """How a pod's container ended, as a clause; None where it has not, or does not say."""
    for status in _containers(pod):
        for place in ("state", "lastState"):
            ended = (status.get(place) or {}).get("terminated")
            if ended and (ended.get("exitCode") or place == "state"):
                why = f" ({ended['reason']})" if ended.get("reason") not in (None, "Error") else ""
                return f"pod {_name(pod)} ended with exit code {ended.get('exitCode')}{why}"
    status = _status(pod)
    if status.get("phase") == "Failed":
        words = [str(status[part]) for part in ("reason", "message") if status.get(part)]
        return f"pod {_name(pod)} failed: {': '.join(words) or 'no reason given'}"
    return None


def _given_up(failed: Mapping[str, object], last: Json | None) -> GivenUp:
    words = [str(failed[part]) for part in ("reason", "message") if failed.get(part)]
    text = f"its Job has given up: {': '.join(words)}"
    if last is None:
        return GivenUp(text)
    end = end_of(last)
    return GivenUp(f"{text}; {end}" if end else text, _name(last))


def _standing_of(pod: Json) -> Ready | Waiting:
    name, status = _name(pod), _status(pod)
    if _is_true(pod, "Ready") and status.get("podIP"):
        return Ready(name, str(status["podIP"]))
    scheduled = _of_type(pod, "PodScheduled")
    if scheduled and scheduled.get("status") == "False":
        text = f"no node takes pod {name}: {scheduled.get('message') or scheduled.get('reason')}"
        return Waiting(Cause.UNSCHEDULABLE, text, name)
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        cause = Cause.IMAGE if reason in _IMAGE else Cause.CONFIG if reason in _CONFIG else None
        if cause is not None:
            text = f"pod {name} cannot start: {reason}: {waiting.get('message') or ''}"
            return Waiting(cause, text.rstrip(": "), name)
    if end := end_of(pod):
        return Waiting(Cause.ENDED, f"{end}; it is started again", name)
    return Waiting(Cause.STARTING, f"pod {name} is starting", name)


def _is_of(pod: Json, job: Json) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == job["metadata"]["uid"] for owner in owners)


def _condition(item: Json, name: str) -> Mapping[str, object] | None:
    found = _of_type(item, name)
    return found if found and found.get("status") == "True" else None


def _is_true(item: Json, name: str) -> bool:
    return _condition(item, name) is not None


def _of_type(item: Json, name: str) -> Mapping[str, object] | None:
    conditions = _status(item).get("conditions") or []
    return next((one for one in conditions if one.get("type") == name), None)


def _containers(pod: Json) -> list[Json]:
    status = _status(pod)
    parts = ("initContainerStatuses", "containerStatuses")
    return [item for part in parts for item in status.get(part) or []]


def _status(item: Json) -> Json:
    return item.get("status") or {}


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
