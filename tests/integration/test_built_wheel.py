"""What is installed, not the working tree: the wheel, and what the images make of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.builders.api_server import free_port
from tests.builders.built_wheel import (
    REPOSITORY,
    a_built_wheel,
    a_bundle,
    an_environment,
    linked_packages,
)

REQUIREMENTS = REPOSITORY / "images" / "requirements"
COPY_PLUGIN = REPOSITORY / "images" / "copy-plugin.sh"
# Whatever the engine needs and vLLM's own dependencies do not include must be in the bundle.
CONTROLLER_ONLY = (
    "aiosqlite", "alembic", "asyncpg", "datasketch", "greenlet", "kubernetes", "mako", "narwhals",
    "plotly", "scipy", "sqlalchemy",
)  # fmt: skip
ENGINE_MODULES = (
    "serving.cli.main", "serving.engine.launch", "serving.engine.plugin", "serving.engine.runtime",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    return a_bundle(tmp_path_factory.mktemp("bundle") / "all", wheel, REQUIREMENTS / "bundle.txt")


def run(
    command: list[str], *, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """In a folder and an environment that know nothing of the repository."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300
    )


def packaged(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_product_and_no_other(wheel: Path) -> None:
    here = {
        str(path.relative_to(REPOSITORY))
        for room in ("adapters", "serving")
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    files = {name for name in packaged(wheel) if ".dist-info/" not in name}

    assert files == here


def test_what_is_read_at_run_time_is_in_the_wheel(wheel: Path) -> None:
    files = packaged(wheel)

    for needed in (
        "adapters/py.typed",
        "adapters/parity/builtin_probe.jsonl",
        "adapters/parity/report_page/style.css",
        "serving/py.typed",
        "serving/controller/dashboard/index.html",
        "serving/controller/dashboard/style.css",
        "serving/controller/registry/migrations/env.py",
        "serving/controller/registry/migrations/versions/0001_first_schema.py",
    ):
        assert needed in files
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == {
        "adapters", "serving",
    }  # fmt: skip


def test_the_bundle_fits_the_python_of_any_vllm_image(bundle: Path) -> None:
    tags = [
        line.removeprefix("Tag: ")
        for path in bundle.glob("*.dist-info/WHEEL")
        for line in path.read_text().splitlines()
        if line.startswith("Tag: ")
    ]

    assert len(tags) >= 3
    for tag in tags:
        assert tag.startswith("py3-none-any") or "-abi3-" in tag, tag


def test_the_engine_needs_nothing_of_ours_beside_vllm_but_the_bundle(bundle: Path) -> None:
    program = without(CONTROLLER_ONLY, (*ENGINE_MODULES, "obstore", "structlog"))

    # This Python's own packages stand for vLLM's: PYTHONPATH goes before them.
    imported = run(
        [sys.executable, "-P", "-c", program], cwd=bundle.parent, env={"PYTHONPATH": str(bundle)}
    )

    assert imported.returncode == 0, imported.stderr
    assert all(path.startswith(str(bundle)) for path in imported.stdout.split())


def test_the_plugin_image_s_script_makes_a_python_without_us_an_engine(
    bundle: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    find = (
        "import json, sys\n"
        "from importlib.metadata import distribution, entry_points\n"
        "import serving.engine.plugin as plugin\n"
        "groups = ('vllm.general_plugins', 'vllm.endpoint_plugins')\n"
        "found = {g: [p.load().__name__ for p in entry_points(group=g)] for g in groups}\n"
        "print(json.dumps([plugin.__file__, distribution('loraplane').version, found]))\n"
    )
    # Isolated from every installed package, the repository's own among them.
    alone = [sys.executable, "-S", "-P", "-c", find]

    before = run(alone, cwd=tmp_path)
    copied = run(
        ["sh", str(COPY_PLUGIN), str(volume)],
        cwd=tmp_path,
        env={"LORAPLANE_PLUGIN_SOURCE": str(bundle)},
    )
    after = run(alone, cwd=tmp_path, env={"PYTHONPATH": str(volume)})

    assert before.returncode != 0
    assert copied.returncode == 0, copied.stderr
    file, version, found = json.loads(after.stdout)
    assert Path(file) == volume / "serving" / "engine" / "plugin.py"
    assert copied.stdout == f"copied loraplane-{version} to {volume}\n"
    assert found == {
        "vllm.general_plugins": ["register"],
        "vllm.endpoint_plugins": ["EndpointPlugin"],
    }


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("controller", ("serving.controller.app", "serving.kube.cluster", "kubernetes.aio.client")),
        ("evaluator", ("adapters.parity.reference_server", "serving.controller.app", "peft")),
    ],
)
def test_an_image_imports_nothing_that_its_list_lacks(
    image: str, modules: tuple[str, ...], wheel: Path, tmp_path: Path
) -> None:
    more = ["torch"] if image == "evaluator" else []
    packages = linked_packages(tmp_path / "packages", wheel, REQUIREMENTS / f"{image}.txt", *more)

    # -S: no site-packages but these.
    imported = run(
        [sys.executable, "-S", "-P", "-c", f"import {', '.join(modules)}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(packages)},
    )

    assert imported.returncode == 0, imported.stderr


def without(absent: Sequence[str], modules: Sequence[str]) -> str:
    """A program that imports modules where other packages cannot be found."""
    return (
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {tuple(absent)!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"found = [importlib.import_module(module) for module in {tuple(modules)!r}]\n"
        "print(*[module.__file__ for module in found])\n"
    )


@pytest.mark.slow
def test_a_controller_starts_on_its_image_s_packages_without_torch_or_vllm(
    wheel: Path, tmp_path: Path
) -> None:
    requirements = REQUIREMENTS / "controller.txt"
    python = str(an_environment(tmp_path / "environment", wheel, requirements))
    find = "import importlib.util as u; print(*[n for n in {!r} if u.find_spec(n)])"

    absent = run([python, "-c", find.format(("torch", "vllm", "pip"))], cwd=tmp_path)
    imported = run([python, "-c", "import kubernetes, serving.controller.app"], cwd=tmp_path)
    kube = run([python, "-c", "import serving.kube"], cwd=tmp_path)
    helped = run([python, "-m", "serving.cli", "controller", "--help"], cwd=tmp_path)

    assert (absent.returncode, absent.stdout.strip()) == (0, ""), absent.stderr
    assert imported.returncode == 0, imported.stderr
    assert kube.returncode == 0, kube.stderr
    assert helped.returncode == 0, helped.stderr
    assert "Run one controller" in helped.stdout
    assert answer_of_a_controller(python, tmp_path) == 200


def answer_of_a_controller(python: str, folder: Path) -> int:
    """Status of /healthz of a controller that makes its registry with the wheel's migrations."""
    port = free_port()
    process = subprocess.Popen(
        [python, "-m", "serving.cli", "controller"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LORAPLANE_DATA_DIR": str(folder / "data"),
            "LORAPLANE_CONTROLLER_PORT": str(port),
        },
    )
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code
            time.sleep(0.2)
        raise AssertionError(f"no answer; exit code {process.poll()}")
    finally:
        process.terminate()
        process.wait(60)
