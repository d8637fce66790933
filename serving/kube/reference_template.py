"""The Job in which the gate's standalone model runs, from the operator's template. Pure.

The template is a whole `batch/v1` Job with a container `reference`. Added here is what differs from
template to template or belongs to the conversation: name, labels, owner, and a readiness probe.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Self

import yaml

from adapters.parity.reference_socket import DEFAULT_PORT
from serving.kube.kinds import JOBS, Json
from serving.kube.owners import reference_to

CONTAINER = "reference"
FAMILY_LABEL = "loraplane.dev/reference"
"""On every Job of one release's reference, whatever its template, and on their pods."""
TEMPLATE_LABEL = "loraplane.dev/reference-template"
_INSTANCE_LABEL = "app.kubernetes.io/instance"
_NAME_LENGTH = 40
"""With the template's mark and the pod's own suffix a name stays below 63 characters."""


class ReferenceTemplateInvalid(ValueError):
    """The template is no Job that can be made; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class ReferenceTemplate:
    """A template, and the names that follow from it."""

    body: Json
    family: str
    """The release's part of the name; one reference of it runs at a time."""
    mark: str
    """Ten hex digits of the template's content and the token: another one is another Job."""

    @classmethod
    def parse(cls, text: str, *, token: str) -> Self:
        """Read a template (YAML).

        Raises:
            ReferenceTemplateInvalid: it is no YAML, no Job, or has no container `reference`.
        """
        try:
            body = yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise ReferenceTemplateInvalid(f"no YAML: {exc}") from exc
        if not isinstance(body, dict) or (body.get("apiVersion"), body.get("kind")) != (
            JOBS.api_version,
            JOBS.kind,
        ):
            raise ReferenceTemplateInvalid(f"no Job of {JOBS.api_version}")
        try:
            metadata = body.get("metadata") or {}
            labels = metadata.get("labels") or {}
            family = metadata.get("name") or f"{labels.get(_INSTANCE_LABEL, 'lora')}-reference"
            _container(body)
            content = json.dumps(body, sort_keys=True).encode()
        except (AttributeError, KeyError, StopIteration, TypeError) as exc:
            text = f"spec.template.spec.containers has no container `{CONTAINER}`"
            raise ReferenceTemplateInvalid(text) from exc
        # Keyed: a Job made with an old token would refuse us, and its name tells nothing of it.
        mark = hmac.new(token.encode(), content, hashlib.sha256).hexdigest()[:10]
        return cls(body, str(family)[:_NAME_LENGTH].rstrip("-."), mark)

    @property
    def name(self) -> str:
        """The Job's name; the same after a restart, so the Job is found again."""
        return f"{self.family}-{self.mark}"

    @property
    def family_selector(self) -> str:
        """Selects the Jobs of this release's reference, of every template."""
        return f"{FAMILY_LABEL}={self.family}"

    @property
    def selector(self) -> str:
        """Selects the Jobs and pods of this template."""
        return f"{self.family_selector},{TEMPLATE_LABEL}={self.mark}"

    @property
    def port(self) -> int:
        """Where the pod listens: the port `reference` of its container."""
        ports = _container(self.body).get("ports") or []
        return next(
            (int(port["containerPort"]) for port in ports if port.get("name") == CONTAINER),
            DEFAULT_PORT,
        )

    def job(self, *, owner: Json | None) -> Json:
        """The Job to make. `owner`: an object that takes the Job along when it is deleted."""
        job = copy.deepcopy(self.body)
        metadata = job.setdefault("metadata", {})
        metadata["name"] = self.name
        marks = {FAMILY_LABEL: self.family, TEMPLATE_LABEL: self.mark}
        pod = job["spec"]["template"].setdefault("metadata", {})
        for labelled in (metadata, pod):
            labelled["labels"] = {**(labelled.get("labels") or {}), **marks}
        if owner is not None:
            metadata["ownerReferences"] = [reference_to(owner)]
        container = _container(job)
        probe = {"tcpSocket": {"port": self.port}, "periodSeconds": 2}
        container.setdefault("readinessProbe", probe)
        return job


def _container(job: Json) -> Json:
    containers = job["spec"]["template"]["spec"]["containers"]
    found: Json = next(item for item in containers if item["name"] == CONTAINER)
    return found
