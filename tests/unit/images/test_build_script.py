"""images/build.sh: takes the builder that works, and says what to do where none does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
IMAGES = ("controller", "evaluator", "engine", "plugin")
# What the script itself calls; everything else on PATH is up to the test.
TOOLS = ("bash", "dirname", "git", "grep", "sed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder that is all of PATH: no builder yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def install(path: Path, name: str, *, log: Path, refuses: str = "nothing") -> Path:
    """A builder that writes down what it is asked for, one line a call."""
    builder = path / name
    builder.write_text(
        f'#!{path / "bash"}\n[[ $1 == {refuses} ]] && exit 1\necho "${{0##*/}} $*" >>{log}\n'
    )
    builder.chmod(0o755)
    return builder


def build(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(path / "bash"), str(REPOSITORY / "images" / "build.sh")]
    environment = {"PATH": str(path), "HOME": os.environ["HOME"], **variables}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_a_builder_it_says_so_and_how_to_get_one(path: Path) -> None:
    built = build(path)

    assert built.returncode == 3
    assert "No image was built" in built.stderr
    assert "install podman or buildah" in built.stderr
    assert "docker is installed" not in built.stderr


def test_docker_without_its_daemon_is_no_builder(path: Path, tmp_path: Path) -> None:
    install(path, "docker", log=tmp_path / "log", refuses="info")

    built = build(path)

    assert built.returncode == 3
    assert "its daemon does not answer" in built.stderr
    assert not (tmp_path / "log").exists()


def test_the_next_builder_is_taken_where_docker_s_daemon_is_away(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    install(path, "docker", log=log, refuses="info")
    install(path, "podman", log=log)

    built = build(path)

    assert built.returncode == 0, built.stderr
    lines = log.read_text().splitlines()
    assert len(lines) == len(IMAGES)
    for line, image in zip(lines, IMAGES, strict=True):
        assert line.startswith(f"podman build --build-arg VERSION={VERSION} --build-arg REVISION=")
        assert line.endswith(
            f"--file images/{image}.Dockerfile --tag loraplane-{image}:{VERSION} ."
        )


def test_names_tags_and_pushes_as_told(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    install(path, "buildah", log=log)

    built = build(
        path, REGISTRY="registry.example.com/team/", TAG="0.1.0-7", IMAGES="plugin", PUSH="1"
    )

    assert built.returncode == 0, built.stderr
    first, second = log.read_text().splitlines()
    assert "--tag registry.example.com/team/loraplane-plugin:0.1.0-7" in first
    assert second == "buildah push registry.example.com/team/loraplane-plugin:0.1.0-7"


def test_a_build_argument_reaches_only_the_images_that_know_it(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    install(path, "podman", log=log)

    build(path, BUILD_ARGS="VARIANT=cpu VLLM_IMAGE=vllm/vllm-openai-cpu")

    given = {
        image: [part for part in line.split() if part.startswith(("VARIANT", "VLLM"))]
        for image, line in zip(IMAGES, log.read_text().splitlines(), strict=True)
    }
    assert given == {
        "controller": [],
        "evaluator": ["VARIANT=cpu"],
        "engine": ["VLLM_IMAGE=vllm/vllm-openai-cpu"],
        "plugin": [],
    }


def test_kaniko_wants_to_be_told_where_to_push(path: Path, tmp_path: Path) -> None:
    executor = install(tmp_path, "executor", log=tmp_path / "log")
    executor.write_text(executor.read_text().replace(str(tmp_path / "bash"), str(path / "bash")))

    refused = build(path, KANIKO_EXECUTOR=str(executor))
    built = build(path, KANIKO_EXECUTOR=str(executor), IMAGES="controller", PUSH="1", REGISTRY="r")

    assert refused.returncode == 3
    assert "set REGISTRY and PUSH=1" in refused.stderr
    assert built.returncode == 0, built.stderr
    assert f"--destination r/loraplane-controller:{VERSION}" in (tmp_path / "log").read_text()


def test_a_builder_that_fails_ends_it_there(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    install(path, "podman", log=log, refuses="build")

    built = build(path)

    assert built.returncode == 1
    assert not log.exists()
