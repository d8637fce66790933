"""A reader's view of the store: the folder is mounted read-only, as in an engine's pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.durable import SCRATCH_PREFIX

REPOSITORY = Path(__file__).resolve().parents[3]
_MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
_OPEN = """
import sys
from adapters.store import ArtifactStore
print(ArtifactStore.from_url(f"file://{sys.argv[1]}").url)
"""


def run_read_only(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where `folder` is mounted read-only, for that process alone."""
    command = ["unshare", "-m", "sh", "-ec", _MOUNT, "sh", str(folder), sys.executable, code]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_killed_upload_does_not_keep_readers_out(tmp_path: Path) -> None:
    if run_read_only(tmp_path, "pass").returncode != 0:
        pytest.skip("no mount namespace can be made here")
    left_over = tmp_path / f"{SCRATCH_PREFIX}killed"
    left_over.mkdir()

    done = run_read_only(tmp_path, _OPEN)

    assert done.stdout.strip() == tmp_path.as_uri(), done.stderr
    assert left_over.is_dir()
