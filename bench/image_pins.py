"""`python -m bench.image_pins`: images/requirements/*.txt, the exact packages of each image.

Names follow from pyproject.toml and the packages' own metadata, versions from requirements/*.lock:
what an image installs is what the tests ran on. `--check` compares instead of writing.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "images" / "requirements"

_HUB = "huggingface_hub"
"""The controller reads the base model's card; for a hub id it needs the hub's client, not torch."""

_BUNDLED = ("obstore", "structlog")
"""What the engine imports and vLLM does not bring (tests/integration/test_built_wheel.py)."""

_HEAD = "# Made by `make docs` from pyproject.toml and requirements/*.lock; do not edit.\n"

_TITLES = {
    "controller": """\
# The controller: our libraries, the Kubernetes client, the hub's client. No torch.
""",
    "evaluator": """\
# The controller's list and what the standalone reference needs; torch comes before it, in the
# variant that the build names.
""",
    "bundle": """\
# What the engine needs beside vLLM. Pure Python or a stable ABI, so that the folder fits the
# Python of any vLLM image.
""",
}


def pins() -> dict[str, list[str]]:
    """Name of a file to its lines, `name==version`, sorted by name.

    Raises:
        PackageNotFoundError: a needed package is not installed here.
        KeyError: a needed package is in no lock file.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    controller = [*project["dependencies"], *extras["kube"], _HUB]
    lists = {
        "controller": closure(controller),
        "evaluator": closure([*controller, *extras["eval"]]) - {"torch"},
        "bundle": closure(_BUNDLED) - {"typing-extensions"},  # vLLM has that one.
    }
    versions = locked_versions()
    return {
        name: [f"{package}=={versions[package]}" for package in sorted(packages)]
        for name, packages in lists.items()
    }


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of the packages that are needed, dependencies included, on this platform."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in distribution(name).requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in seen}


def locked_versions() -> dict[str, str]:
    """Canonical name to version, of everything in the lock files."""
    return {
        canonicalize_name(name): version
        for lock in ("cpu.lock", "dev.lock")
        for name, version in re.findall(
            r"^([A-Za-z0-9_.-]+)==(\S+)$", (REPOSITORY / "requirements" / lock).read_text(), re.M
        )
    }


def render(name: str, lines: list[str]) -> str:
    """The file's text."""
    return _TITLES[name] + _HEAD + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that are old and return 1."""
    old = []
    for name, lines in pins().items():
        path, text = FOLDER / f"{name}.txt", render(name, lines)
        if not path.is_file() or path.read_text() != text:
            old.append(path.name)
            if "--check" not in arguments:
                path.write_text(text)
    if "--check" in arguments and old:
        print(f"images/requirements: {', '.join(old)} would change; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
