"""docs/operations.md against the chart: its commands work, and what it names exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from serving.cli.main import app
from serving.cli.settings_doc import render as settings_page
from serving.controller.app import create_app
from tests.builders.controller import settings_in
from tests.builders.dockerfile import DOCKERFILES, read_dockerfile
from tests.builders.exposed_metrics import controller_metrics, engine_metrics
from tests.builders.helm import PROFILES, Json, program, render
from tests.builders.operations_page import (
    ADAPTER,
    REPOSITORY,
    Command,
    commands,
    page,
    section,
    spans,
    values_files,
    yaml_files,
)

CHART = REPOSITORY / "helm" / "loraplane"
# What other products bring into a cluster, and helm asks for where the values use it.
FOREIGN = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule",
           "keda.sh/v1alpha1/ScaledObject")  # fmt: skip
OPTIONS = tuple(word for kind in FOREIGN for word in ("--api-versions", kind))
IN_NAMESPACE = {"release": "loraplane", "namespace": "loraplane"}
KINDS = {
    "deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service",
    "secret": "Secret", "pvc": "PersistentVolumeClaim", "networkpolicy": "NetworkPolicy",
    "lease": "Lease", "pod": "Pod", "pods": "Pod", "job": "Job", "jobs": "Job",
    "loraadapter": "LoraAdapter", "loraadapters": "LoraAdapter", "events": "Event",
    "crd": "CustomResourceDefinition", "namespace": "Namespace",
}  # fmt: skip
# Kinds of Kubernetes' own or of our definition, of which the chart renders no object.
MADE_LATER = {
    "Lease",
    "Pod",
    "Job",
    "LoraAdapter",
    "Event",
    "CustomResourceDefinition",
    "Namespace",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody who follows the page has saved its files of values."""
    made = tmp_path_factory.mktemp("values")
    for name, text in values_files().items():
        (made / name).write_text(text)
    (made / "helm").symlink_to(REPOSITORY / "helm")
    return made


def run(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@cache
def objects() -> list[Json]:
    """What the chart may render, by one choice of values or another."""
    choices: list[dict[str, Any]] = [
        {"front": {"mode": "envoy"}, "networkPolicy": {"enabled": True}},
        {"postgresql": {"enabled": True}, "model": {"cache": {"keep": True}}},
    ]
    return [
        body
        for values in choices
        for body in render(values, "h100-80g", options=OPTIONS, **IN_NAMESPACE)
    ]


def names(kind: str) -> set[str]:
    """Names of the objects of a kind; those that claim templates and pods will have, too."""
    found = {body["metadata"]["name"] for body in objects() if body["kind"] == kind}
    for body in (one for one in objects() if one["kind"] == "StatefulSet"):
        if kind == "Pod":
            found.add(f"{body['metadata']['name']}-0")
        if kind == "PersistentVolumeClaim":
            found |= {
                f"{claim['metadata']['name']}-{body['metadata']['name']}-0"
                for claim in body["spec"].get("volumeClaimTemplates", [])
            }
    return found


def is_rendered(command: Command) -> bool:
    words = command.words
    return words[1] in {"upgrade", "template", "install"} and "helm/loraplane" in words


@pytest.mark.parametrize(
    "command", [one for one in commands("helm") if is_rendered(one)], ids=lambda one: one.text[-70:]
)
def test_the_chart_takes_what_an_install_or_upgrade_says(command: Command, folder: Path) -> None:
    install_only = {"--install", "--create-namespace"}
    words = [word for word in command.words[2:] if word not in install_only]

    rendered = run([str(program("helm")), "template", *words], folder)

    assert rendered.returncode == 0, rendered.stderr
    assert "kind: StatefulSet" in rendered.stdout


@pytest.mark.parametrize("name", values_files())
@pytest.mark.parametrize("profile", PROFILES)
def test_the_chart_takes_each_file_of_values_with_each_profile(name: str, profile: str) -> None:
    given = yaml.safe_load(values_files()[name])

    rendered = render(given, profile, options=OPTIONS, **IN_NAMESPACE)

    assert {"Deployment", "StatefulSet"} <= {body["kind"] for body in rendered}


@pytest.mark.parametrize("name", ["helm", "kubectl"])
def test_helm_and_kubectl_know_every_verb_and_option(name: str, tmp_path: Path) -> None:
    for command in {one.text: one for one in commands(name)}.values():
        before, _, _ = command.text.partition(" -- ")

        helped = run([str(program(name)), *shlex.split(before)[1:], "--help"], tmp_path)

        assert helped.returncode == 0, f"{command.text}: {helped.stderr}"


def test_loraplane_knows_every_verb_and_option() -> None:
    for command in commands("loraplane"):
        words = command.words[1:]
        known: Any = typer.main.get_command(app)
        while words and words[0] in getattr(known, "commands", {}):
            known = known.commands[words.pop(0)]
        options = {option for one in known.params for option in one.opts}

        assert not getattr(known, "commands", {}) or known.invoke_without_command, command.text
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, (
            command.text
        )


def test_make_is_given_targets_and_variables_that_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    script = (REPOSITORY / "images" / "build.sh").read_text()
    arguments = {name for path in DOCKERFILES for name in read_dockerfile(path).every_argument()}

    for command in commands("make"):
        target, *variables = command.words[1:]
        assert f"\n{target}:" in makefile
        for variable in variables:
            name, _, value = variable.partition("=")
            assert f"#   {name} " in script, variable
            if name == "BUILD_ARGS":
                assert {one.partition("=")[0] for one in value.split()} <= arguments
    for given in re.findall(r'^`?\(?`?BUILD_ARGS="([^"]+)"', page(), re.M):
        assert {one.partition("=")[0] for one in given.split()} <= arguments


def test_every_object_that_kubectl_is_asked_for_exists() -> None:
    made_here = {
        command.words[command.words.index("create") + 3]
        for command in commands("kubectl")
        if command.words[1:5] == ["-n", "loraplane", "create", "secret"]
    } | set(re.findall(r"--copy-to=(\S+)", page()))
    lease = next(
        item["value"]
        for body in objects() if body["kind"] == "Deployment"
        for container in body["spec"]["template"]["spec"]["containers"]
        for item in container.get("env", []) if item["name"] == "LORAPLANE_LEASE_NAME"
    )  # fmt: skip
    for command in commands("kubectl"):
        before, _, _ = command.text.partition(" -- ")
        for kind, name in named_in(shlex.split(before)):
            known = names(KINDS[kind]) | made_here
            if kind == "lease":
                known = {lease}
            if kind == "crd":
                known = {"loraadapters.loraplane.dev"}
            assert name in known or name in {"", "NAME"}, command.text
            assert names(KINDS[kind]) or KINDS[kind] in MADE_LATER, command.text


def named_in(words: list[str]) -> list[tuple[str, str]]:
    """(kind, name) of what a kubectl command is about; an empty name is all of them."""
    plain = [word for word in words[1:] if not word.startswith("-") and word != "loraplane"]
    paired = [tuple(word.split("/")) for word in plain if word.split("/")[0] in KINDS]
    found = [(kind, name) for kind, name in (pair for pair in paired if len(pair) == 2)]
    if plain[0] in {"get", "describe", "delete"}:
        kind = plain[1].split("/")[0]
        assert kind in KINDS, words
        if not found:
            rest = [word for word in plain[2:] if re.fullmatch(r"[a-zA-Z0-9.-]+", word)]
            given = [word for word in rest if word not in {"yaml", "NAME"} and "=" not in word]
            found.append((kind, given[0] if given else ""))
    if plain[0] in {"logs", "exec"} and not found:
        found.append(("pod", plain[1]))
    return found


def test_every_component_that_is_selected_has_pods() -> None:
    (job,) = {
        body["data"]["job.yaml"]
        for body in objects()
        if body["kind"] == "ConfigMap" and "job.yaml" in body.get("data", {})
    }
    templates = [
        body["spec"]["template"] for body in objects() if "template" in body.get("spec", {})
    ]
    templates.append(yaml.safe_load(job)["spec"]["template"])
    components = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in templates}

    selected = set(re.findall(r"app\.kubernetes\.io/component=(\w+)", page()))

    assert selected
    assert selected <= components


def test_every_value_that_is_named_is_one_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    named = [span.split("=")[0].removeprefix("--set ") for span in spans()]
    paths = [name for name in named if re.fullmatch(r"[a-zA-Z]+(\.[a-zA-Z_]+)+", name)]

    ours = [path for path in paths if path.split(".")[0] in values]

    assert len(ours) > 30
    for path in ours:
        assert has_path(values, path) or is_in_schema(schema, path), path


def has_path(values: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def is_in_schema(schema: Json, path: str) -> bool:
    node = schema
    for part in path.split("."):
        while "$ref" in node:
            target = schema
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        if part not in node.get("properties", {}):
            return False
        node = node["properties"][part]
    return True


def test_metrics_alerts_and_settings_exist() -> None:
    metrics = {metric.name for metric in [*engine_metrics(), *controller_metrics()]}
    adapter = yaml.safe_load(yaml_files()[ADAPTER])["rules"]["external"]
    metrics |= {rule["name"]["as"] for rule in adapter}
    rules = "\n".join(path.read_text() for path in (CHART / "rules").glob("*.yaml"))
    settings = settings_page()

    for name in re.findall(r"\bloraplane_[a-z_]+", page()):
        assert name in metrics, name
    for name in re.findall(r"\bLoraplane[A-Z]\w+", page()):
        assert f"alert: {name}\n" in rules, name
    for name in re.findall(r"\bLORAPLANE_[A-Z_]+", page()):
        assert f"`{name}`" in settings, name


def test_every_route_of_the_controller_that_is_called_exists(tmp_path: Path) -> None:
    known = create_app(settings_in(tmp_path), has_loop=False).openapi()["paths"]
    patterns = [re.sub(r"\{\w+\}", "[^/]+", path) for path in known]

    called = re.findall(r"\$LORAPLANE_URL(/[\w./-]+)", page())

    assert len(called) >= 3
    for path in called:
        assert any(re.fullmatch(pattern, path) for pattern in patterns), path


def test_every_code_that_a_symptom_names_is_one_that_somebody_says() -> None:
    sources = [*(REPOSITORY / "serving").rglob("*.py"), *(CHART / "templates").rglob("*.tpl")]
    said = "\n".join(path.read_text() for path in sources)
    codes = {
        span
        for line in section("Troubleshooting").splitlines()
        for span in re.findall(r"`([a-z]+(?:_[a-z]+)+|draining|starting)`", line.split(" | ")[0])
    }

    assert len(codes) > 8
    for code in codes:
        assert re.search(rf"\b{code}\b", said), code


def test_every_profile_is_offered() -> None:
    assert {
        Path(span).stem for span in spans() if span.startswith("helm/loraplane/profiles/")
    } == set(PROFILES)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", page()):
        assert (REPOSITORY / "docs" / target).is_file(), target


def test_what_helm_leaves_behind_is_in_the_section_about_it() -> None:
    kept = {
        body["metadata"]["name"]
        for body in objects()
        if body["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }

    assert kept
    for name in kept - {"loraplane-model-cache"}:
        assert f"`{name}`" in section("Uninstall"), name
    assert "model.cache.keep" in section("Uninstall")
