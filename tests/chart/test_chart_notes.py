"""What a person reads after an install, and what `helm test` asks, against the product itself."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from serving.cli.main import app
from serving.contract import encode, engine_token
from serving.controller.app import create_app
from tests.builders.controller import ADMIN, SECRET, a_report, a_server, bearer, settings_in
from tests.builders.helm import BUCKET, CHART, POSTGRES, Json, environment_of, helm, render


def notes(values: Json) -> str:
    """The text after an install, which nothing is installed for."""
    words = ["install", "loraplane", str(CHART), "--namespace", "serving", "--dry-run=client"]
    return helm(*words, "--values", "-", stdin=yaml.safe_dump(values)).split("\nNOTES:\n")[1]


def commands(
    command: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every verb and its options."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    yield path, {option for each in command.params for option in each.opts}


def test_the_three_next_commands_are_real_ones() -> None:
    known = dict(commands(typer.main.get_command(app)))
    lines = re.findall(r"loraplane ((?:tenant|key|push)\b[^&\n]*)", notes({}))

    for words in map(shlex.split, lines):
        verb = max((path for path in known if tuple(words[: len(path)]) == path), key=len)
        assert {word for word in words if word.startswith("--")} <= known[verb]
    assert [words.split()[0] for words in lines] == ["tenant", "key", "push"]


def test_the_token_is_read_where_it_is() -> None:
    assert "get secret loraplane-secrets -o jsonpath='{.data.admin-token}'" in notes({})
    assert "get secret mine -o" in notes({"secrets": {"existingSecret": "mine"}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "http://loraplane-engines.serving.svc:8500/v1"),
        ({"front": {"mode": "envoy"}}, "http://loraplane-front.serving.svc:80/v1"),
        (
            {"front": {"mode": "envoy", "tls": {"secretName": "tls"}}},
            "https://loraplane-front.serving.svc",
        ),
        ({"controller": {"persistence": {"enabled": False}}}, "WARNING"),
        ({"store": {"pvc": {"accessModes": ["ReadWriteOnce"]}}}, "kept on one node"),
        ({}, "kubectl -n serving get pvc loraplane-model-cache loraplane-store\n"),
        ({}, "kubectl -n serving delete pvc NAME"),
        ({**BUCKET}, "kubectl -n serving get pvc loraplane-model-cache\n"),
        ({}, "image.registry is empty: nodes look for loraplane-engine, loraplane-evaluator, "),
        ({"upgrade": "gate"}, "upgrade is gate, and there is one engine"),
        ({"engine": {"replicas": 3}}, "front.mode=envoy"),
    ],
)
def test_the_notes_follow_the_values(values: Json, said: str) -> None:
    assert said in notes(values)


@pytest.mark.parametrize(
    ("values", "unsaid"),
    [
        ({**BUCKET, "model": {"cache": {"type": "perEngine"}}}, "ReadWriteMany"),
        ({"image": {"registry": "registry.example.com/team"}}, "image.registry is empty"),
        ({"image": {"pullPolicy": "Never"}}, "image.registry is empty"),
        (
            {
                part: {"image": {"repository": f"registry.example.com/{part}"}}
                for part in ("controller", "engine", "reference")
            },
            "image.registry is empty",
        ),
        ({}, "upgrade is gate"),
        ({"upgrade": "gate", "engine": {"replicas": 2}}, "upgrade is gate"),
        ({}, "kept on one node"),
    ],
)
def test_the_notes_are_silent_where_nothing_is_amiss(values: Json, unsaid: str) -> None:
    assert unsaid not in notes(values)


def kept(values: Json) -> set[str]:
    """What the rendered objects say that an uninstall leaves."""
    return {
        f"{body['kind']} {body['metadata']['name']}"
        for body in render(values)
        if body["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }


@pytest.mark.parametrize(
    "values",
    [
        {},
        {**POSTGRES, **BUCKET},
        {"secrets": {"keep": False}, "store": {"pvc": {"keep": False}}},
        {"model": {"cache": {"keep": True}}},
    ],
)
def test_the_notes_say_what_an_uninstall_leaves(values: Json) -> None:
    left = notes(values).split("leaves what cannot be made again:\n")[1]

    assert set(re.findall(r"(?:Secret|PersistentVolumeClaim) [a-z-]+", left)) == kept(values)


def test_helm_test_passes_as_soon_as_an_engine_is_ready(tmp_path: Path) -> None:
    (pod,) = [
        body for body in render() if "helm.sh/hook" in body["metadata"].get("annotations", {})
    ]
    (container,) = pod["spec"]["containers"]
    token = engine_token(SECRET)

    with a_server(create_app(settings_in(tmp_path), has_loop=False)) as url:
        statuses = []
        for is_ready in (False, True):
            report(url, token, is_ready=is_ready)
            statuses.append(run(container, {"LORAPLANE_URL": url, "LORAPLANE_TOKEN": ADMIN}))

    assert statuses == [1, 0]
    assert set(environment_of(container)) == {"LORAPLANE_URL", "LORAPLANE_TOKEN"}


def report(url: str, token: str, *, is_ready: bool) -> None:
    answer = httpx.post(
        f"{url}/internal/v1/engines/engine-0/report",
        content=encode(a_report(is_ready=is_ready)),
        headers=bearer(token),
    )
    assert answer.status_code == 204, answer.text


def run(container: Json, environment: dict[str, str]) -> int:
    command = [sys.executable, *container["command"][1:]]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
