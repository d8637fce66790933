"""The kinds of objects that loraplane reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API, at the version that is spoken here."""

    group: str
    """Empty: the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`; `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str | None = None, *tail: str) -> str:
        """The URL's path of the collection, of one object, or of a part of it."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced:
            parts += ["namespaces", namespace]
        parts += [self.plural, *([name] if name is not None else []), *tail]
        return "/" + "/".join(quote(part, safe="") for part in parts)


PODS = Kind("", "v1", "pods", "Pod")
EVENTS = Kind("", "v1", "events", "Event")
WRITTEN_EVENTS = Kind("events.k8s.io", "v1", "events", "Event")
"""The same objects in the newer form, which is the one to write."""
SECRETS = Kind("", "v1", "secrets", "Secret")
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
STATEFUL_SETS = Kind("apps", "v1", "statefulsets", "StatefulSet")
JOBS = Kind("batch", "v1", "jobs", "Job")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
LORA_ADAPTERS = Kind("loraplane.dev", "v1alpha1", "loraadapters", "LoraAdapter")
