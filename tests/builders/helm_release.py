"""A release of the chart on an API server: real helm, real kubectl, a namespace of its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.kubelet.chart import CHART
from tests.builders.helm import HelmRefused, program

Json = dict[str, Any]

SMALL: Json = {
    "model": {"source": "hostPath", "hostPath": {"path": "/models"}},
    "reference": {"gpu": {"count": 0}},
    "engine": {"gpu": {"enabled": False}},
}
"""Enough for an install; what the pods would do is nobody's matter here."""
_SECONDS = 180


class KubectlRefused(Exception):
    """kubectl ended with an error; its words are the message."""


@dataclass(frozen=True)
class Release:
    """One name in one namespace; nothing is installed by making this."""

    kubeconfig: Path
    namespace: str
    name: str = "loraplane"

    def install(self, values: Json | None = None) -> str:
        """`helm install`; what it says.

        Raises:
            HelmRefused: it ended with an error.
        """
        return self._apply("install", values)

    def upgrade(self, values: Json | None = None, *options: str) -> str:
        """`helm upgrade` with these values and no earlier ones; as `install`."""
        return self._apply("upgrade", values, *options)

    def rollback(self, revision: int) -> None:
        """`helm rollback`; as `install`."""
        self.helm("rollback", self.name, str(revision))

    def uninstall(self) -> str:
        """`helm uninstall`; as `install`."""
        return self.helm("uninstall", self.name)

    def _apply(self, verb: str, values: Json | None, *options: str) -> str:
        text = yaml.safe_dump({**SMALL, **(values or {})})
        words = (verb, self.name, str(CHART), "--values", "-", *options)
        return self.helm(*words, stdin=text)

    def helm(self, *words: str, stdin: str | None = None) -> str:
        """Any verb of helm in this namespace."""
        done = self._run("helm", words, stdin)
        if done.returncode:
            raise HelmRefused(done.stdout + done.stderr)
        return done.stdout

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Any verb of kubectl in this namespace; its output.

        Raises:
            KubectlRefused: it ended with an error.
        """
        done = self._run("kubectl", words, stdin)
        if done.returncode:
            raise KubectlRefused(done.stdout + done.stderr)
        return done.stdout

    def _run(
        self, name: str, words: Iterable[str], stdin: str | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program(name)), *words, "--namespace", self.namespace],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HELM_KUBECONTEXT": ""},
        )

    def apply(self, body: Json) -> None:
        """Create an object, or change it."""
        self.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(body))

    def find(self, resource: str, name: str) -> Json:
        """One object.

        Raises:
            KubectlRefused: there is none.
        """
        return dict(json.loads(self.kubectl("get", resource, name, "-o", "json")))

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's values."""
        data = self.find("secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def remaining(self) -> set[str]:
        """`resource/name` of every object of the namespace, of every kind that the server lists.

        Without what the cluster itself keeps there: events, and each namespace's default account.
        """
        kinds = self.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name")
        asked = [kind for kind in kinds.split() if not kind.startswith("events")]
        found = self.kubectl("get", ",".join(asked), "--ignore-not-found", "--output=name")
        return set(found.split()) - {"serviceaccount/default"}
