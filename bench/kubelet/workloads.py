"""Which pods Deployments and StatefulSets want, and which of those there are; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from bench.kubelet.objects import Json


@dataclass(frozen=True, slots=True)
class Present:
    """A pod that there is."""

    name: str
    workload: tuple[str, str]
    """Kind and name of what it belongs to."""
    is_leaving: bool


def missing(workloads: Iterable[Json], present: Iterable[Present]) -> list[tuple[Json, str]]:
    """Workload and name of each pod to make.

    A StatefulSet's pod comes back under its name, so only once it is gone; a Deployment replaces a
    leaving pod at once, under a new name.
    """
    found, there = [], list(present)
    for workload in workloads:
        own = [pod for pod in there if pod.workload == identity(workload)]
        names = {pod.name for pod in own}
        if workload["kind"] == "StatefulSet":
            wanted = _stateful_names(workload)
            found += [(workload, name) for name in wanted if name not in names]
        else:
            n_missing = _replicas(workload) - sum(not pod.is_leaving for pod in own)
            found += [(workload, _new_name(workload, names, turn)) for turn in range(n_missing)]
    return found


def surplus(workloads: Iterable[Json], present: Iterable[Present]) -> list[str]:
    """Pods that nothing wants any more."""
    by_identity = {identity(workload): workload for workload in workloads}
    found = []
    for pod in present:
        workload = by_identity.get(pod.workload)
        is_stateful = workload is not None and workload["kind"] == "StatefulSet"
        if workload is None or (is_stateful and pod.name not in _stateful_names(workload)):
            found.append(pod.name)
    for workload in by_identity.values():
        if workload["kind"] == "Deployment":
            own = [
                pod.name
                for pod in present
                if pod.workload == identity(workload) and not pod.is_leaving
            ]
            found += own[_replicas(workload) :]
    return found


def identity(workload: Json) -> tuple[str, str]:
    """Kind and name."""
    return workload["kind"], workload["metadata"]["name"]


def _replicas(workload: Json) -> int:
    return int(workload["spec"].get("replicas", 1))


def _stateful_names(workload: Json) -> list[str]:
    name = workload["metadata"]["name"]
    return [f"{name}-{number}" for number in range(_replicas(workload))]


def _new_name(workload: Json, taken: set[str], turn: int) -> str:
    template = json.dumps(workload["spec"]["template"], sort_keys=True).encode()
    stem = f"{workload['metadata']['name']}-{hashlib.sha256(template).hexdigest()[:10]}"
    free = (f"{stem}-{number:05d}" for number in range(len(taken) + turn + 1))
    return [name for name in free if name not in taken][turn]
