"""The chart through the real helm: what it renders, and what it refuses.

helm and kubectl are those of `KUBEBUILDER_ASSETS` where that names them, else the ones that an
installed package brings along, so they are always there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bench.kubelet.chart import CHART, programs
from serving.engine.profile import EngineProfile, parse_profile

Json = dict[str, Any]

PROFILES = tuple(sorted(path.stem for path in (CHART / "profiles").glob("*.yaml")))
GIVEN_SECRETS: Json = {
    "adminToken": "an-admin-token-of-tests",
    "clusterSecret": "a-cluster-secret-of-tests-32-characters",
    "metricsToken": "a-metrics-token-of-tests",
    "referenceToken": "a-reference-token-of-tests",
}
"""Instead of generated ones, so that two renderings are the same."""
POSTGRES: Json = {"database": {"existingSecret": {"name": "registry"}}}
BUCKET: Json = {"store": {"type": "s3", "url": "s3://adapters/fleet", "existingSecret": "bucket"}}


class HelmRefused(Exception):
    """helm ended with an error; `message` is all that it said."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


@cache
def program(name: str) -> Path:
    """Where `helm` or `kubectl` is."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent") / name
    return assets if assets.exists() else programs() / name


def helm(*words: str, stdin: str | None = None) -> str:
    """Run helm, away from any cluster; its output.

    Raises:
        HelmRefused: it ended with an error.
    """
    done = subprocess.run(
        [str(program("helm")), *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull, "HELM_KUBECONTEXT": ""},
    )
    if done.returncode:
        raise HelmRefused(done.stdout + done.stderr)
    return done.stdout


def render_text(
    values: Mapping[str, Any] | None = None,
    profile: str | None = None,
    *,
    release: str = "loraplane",
    namespace: str = "default",
    options: Sequence[str] = (),
    chart: Path = CHART,
) -> str:
    """What `helm template` prints.

    Args:
        values: over those of the profile.
        profile: name of a file in profiles/, without `.yaml`; None: the chart's own values.
        options: more options of helm.
        chart: another folder than the repository's chart.

    Raises:
        HelmRefused: the chart refuses the values.
    """
    words = ["template", release, str(chart), "--namespace", namespace, *options]
    if profile is not None:
        words += ["--values", str(CHART / "profiles" / f"{profile}.yaml")]
    return helm(*words, "--values", "-", stdin=yaml.safe_dump(dict(values or {})))


def render(
    values: Mapping[str, Any] | None = None, profile: str | None = None, **rendering: Any
) -> list[Json]:
    """The chart's objects; arguments as `render_text`."""
    text = render_text(values, profile, **rendering)
    return [body for body in yaml.safe_load_all(text) if body]


def refusal(values: Mapping[str, Any], profile: str | None = None) -> str:
    """What helm says when it refuses these values.

    Raises:
        AssertionError: it did not refuse them.
    """
    try:
        render_text(values, profile)
    except HelmRefused as exc:
        return exc.message
    raise AssertionError(f"the chart took {values}")


def object_named(objects: Sequence[Json], kind: str, name: str) -> Json:
    """The one object of this kind and name."""
    (found,) = [
        body for body in objects if body["kind"] == kind and body["metadata"]["name"] == name
    ]
    return found


def container_of(workload: Json) -> Json:
    """The one container of a workload, or of a Job."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment_of(container: Json) -> dict[str, Any]:
    """Variable -> plain value, or what it is taken from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def controller(objects: list[Json]) -> Json:
    """The controller's Deployment of the release `loraplane`."""
    return object_named(objects, "Deployment", "loraplane-controller")


def engine(objects: list[Json]) -> Json:
    """The engines' StatefulSet of the release `loraplane`."""
    return object_named(objects, "StatefulSet", "loraplane-engine")


def pod_of(workload: Json) -> Json:
    """The pod that a workload makes."""
    return dict(workload["spec"]["template"]["spec"])


def volume(workload: Json, name: str) -> Json:
    """A volume of a workload's pod."""
    (found,) = [item for item in pod_of(workload)["volumes"] if item["name"] == name]
    return dict(found)


def profile_of(objects: list[Json]) -> EngineProfile:
    """The engine profile that the release `loraplane` mounts, as engines read it."""
    config = object_named(objects, "ConfigMap", "loraplane-engine-profile")
    return parse_profile(yaml.safe_load(config["data"]["profile.yaml"]))


def job_of(objects: list[Json]) -> Json:
    """The template of the reference's Job."""
    config = object_named(objects, "ConfigMap", "loraplane-reference-job")
    return dict(yaml.safe_load(config["data"]["job.yaml"]))


def plain(environment: Mapping[str, Any]) -> dict[str, str]:
    """Variables with values of their own, as a process would find them."""
    return {name: value for name, value in environment.items() if isinstance(value, str)}
