"""The wheel, built as the Dockerfiles build it: from what their ignore file lets through."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_IGNORED = shutil.ignore_patterns("__pycache__")


def a_built_wheel(folder: Path) -> Path:
    """Build in `folder`, offline; the repository is left alone."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    for room in ("adapters", "serving"):
        shutil.copytree(REPOSITORY / room, source / room, ignore=_IGNORED)
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("loraplane-*.whl")
    return wheel


def an_environment(folder: Path, wheel: Path, requirements: Path) -> Path:
    """A virtual environment without pip, with exactly these packages; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python3"
    into = ("--python", str(python), "install", "--no-deps")
    pip(*into, "--only-binary=:all:", "--requirement", str(requirements))
    pip(*into, "--no-index", str(wheel))
    return python


def linked_packages(folder: Path, wheel: Path, requirements: Path, *more: str) -> Path:
    """A folder with exactly these packages, linked from where they are installed, and the wheel."""
    folder.mkdir()
    for line in [*requirements.read_text().splitlines(), *more]:
        if line.startswith("#"):
            continue
        found = distribution(line.split("==")[0])
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def a_bundle(folder: Path, wheel: Path, requirements: Path) -> Path:
    """The folder that the images of engine and plugin have: our wheel and what vLLM lacks."""
    into = ("install", "--target", str(folder), "--no-compile", "--no-deps")
    pip(*into, "--only-binary=:all:", "--requirement", str(requirements))
    pip(*into, "--no-index", str(wheel))
    shutil.rmtree(folder / "bin")
    return folder


def pip(*arguments: str) -> None:
    """One pip command, or an error that shows what it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
