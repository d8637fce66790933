"""The documented way to a newer CustomResourceDefinition, after Helm has installed an older one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.builders.api_server import WITHOUT_ASSETS, find_assets, run_api_server
from tests.builders.helm_release import Release
from tests.builders.lora_world import CRD_FILE
from tests.builders.operations_page import REPOSITORY, commands

NAME = "loraadapters.loraplane.dev"


@pytest.fixture
def release() -> Iterator[Release]:
    """On a server of its own: kinds belong to a whole cluster, and this one changes."""
    if find_assets() is None:
        pytest.skip(WITHOUT_ASSETS)
    with run_api_server() as server:
        made = Release(server.kubeconfig(), "loraplane")
        made.kubectl("create", "namespace", made.namespace)
        yield made


def documented() -> list[list[str]]:
    """Every command of the page that applies the definition."""
    file = str(CRD_FILE.relative_to(REPOSITORY))
    return [one.words[1:] for one in commands("kubectl") if file in one.words]


def newer(folder: Path, text: str) -> Path:
    """The definition with another description of a field, as a later loraplane might bring it."""
    body = yaml.safe_load(CRD_FILE.read_text())
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["tenant"]["description"] = text
    made = folder / "newer.yaml"
    made.write_text(yaml.safe_dump(body))
    return made


def test_each_command_of_the_page_replaces_what_helm_has_installed(
    release: Release, tmp_path: Path
) -> None:
    release.install()
    assert len(documented()) >= 2

    for number, words in enumerate(documented()):
        text = f"newer {number}"
        file = newer(tmp_path, text)
        given = [str(file) if word.endswith(CRD_FILE.name) else word for word in words]
        release.kubectl(*given)

        schema = release.find("crd", NAME)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert schema["properties"]["spec"]["properties"]["tenant"]["description"] == text


def test_both_pages_name_the_same_command() -> None:
    told = (REPOSITORY / "docs" / "lora-adapter.md").read_text()

    for words in documented():
        assert " ".join(word for word in words if word.startswith("--")) in told
