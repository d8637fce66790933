"""images/copy-plugin.sh: what an init container does to a volume that may not be empty."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "images" / "copy-plugin.sh"


def a_plugin(folder: Path, version: str, *modules: str) -> Path:
    """A folder as the image has it: packages and the distribution's metadata."""
    for module in modules:
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text(f"version = {version!r}\n")
    (folder / f"loraplane-{version}.dist-info").mkdir()
    (folder / f"loraplane-{version}.dist-info" / "METADATA").write_text(f"Version: {version}\n")
    return folder


def copy(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "LORAPLANE_PLUGIN_SOURCE": str(source)}
    return subprocess.run(
        ["sh", str(SCRIPT), str(target)], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


def test_it_copies_everything_and_says_which_version(tmp_path: Path, volume: Path) -> None:
    source = a_plugin(tmp_path / "one", "0.1.0", "serving", "adapters")

    copied = copy(source, volume)

    assert copied.returncode == 0, copied.stderr
    assert copied.stdout == f"copied loraplane-0.1.0 to {volume}\n"
    assert names(volume) == {"serving", "adapters", "loraplane-0.1.0.dist-info"} | {
        ".loraplane-plugin"
    }
    assert (volume / "serving" / "__init__.py").read_text() == "version = '0.1.0'\n"


def test_a_newer_version_leaves_nothing_of_the_older_one(tmp_path: Path, volume: Path) -> None:
    copy(a_plugin(tmp_path / "one", "0.1.0", "serving", "dropped"), volume)
    (volume / "of-somebody-else").write_text("x")

    copied = copy(a_plugin(tmp_path / "two", "0.2.0", "serving"), volume)

    assert copied.returncode == 0, copied.stderr
    assert names(volume) == {
        "serving", "loraplane-0.2.0.dist-info", ".loraplane-plugin", "of-somebody-else",
    }  # fmt: skip
    assert (volume / "serving" / "__init__.py").read_text() == "version = '0.2.0'\n"


def test_a_copy_that_was_cut_off_is_made_whole(tmp_path: Path, volume: Path) -> None:
    source = a_plugin(tmp_path / "one", "0.1.0", "serving", "adapters")
    copy(source, volume)
    (volume / "serving" / "__init__.py").write_text("half")
    (volume / "serving" / "stray.py").write_text("half")

    copied = copy(source, volume)

    assert copied.returncode == 0, copied.stderr
    assert names(volume / "serving") == {"__init__.py"}
    assert (volume / "serving" / "__init__.py").read_text() == "version = '0.1.0'\n"


def test_another_user_can_read_the_copy(tmp_path: Path, volume: Path) -> None:
    copy(a_plugin(tmp_path / "one", "0.1.0", "serving"), volume)

    for path in volume.rglob("*"):
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert path.stat().st_mode & needed == needed, path


def test_without_a_target_or_with_an_unwritable_one_it_fails(tmp_path: Path) -> None:
    source = a_plugin(tmp_path / "one", "0.1.0", "serving")

    missing = copy(source, tmp_path / "absent")
    none = subprocess.run(["sh", str(SCRIPT)], capture_output=True, text=True, check=False)

    assert missing.returncode != 0
    assert none.returncode != 0
    assert "usage: copy-plugin.sh TARGET" in none.stderr
