"""Scratch folders and durable moves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from adapters.durable import (
    SCRATCH_PREFIX,
    make_folders,
    move_into_place,
    remove_folder,
    scratch_folder,
    sweep_scratch,
)


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch:
        (scratch / "file").write_text("x")

    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_was_moved_stays_moved(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch:
        (scratch / "file").write_text("x")
        move_into_place(scratch, tmp_path / "kept")

    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_a_scratch_folder_in_use_is_not_swept(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch:
        assert sweep_scratch(tmp_path) == 0
        assert scratch.is_dir()


def test_the_scratch_folder_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from adapters.durable import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert sweep_scratch(tmp_path) == 0
        child.send_signal(signal.SIGKILL)

    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_folders_and_files_are_never_swept(tmp_path: Path) -> None:
    (tmp_path / "sha256-abc").mkdir()
    (tmp_path / f"{SCRATCH_PREFIX}file").touch()

    assert sweep_scratch(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_read_only_folders_can_be_removed_and_absent_ones_too(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch(mode=0o444)
    folder.chmod(0o555)

    remove_folder(folder)
    remove_folder(folder)

    assert not folder.exists()


def test_folders_are_made_all_the_way(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b" / "c", below=tmp_path)
    make_folders(tmp_path / "a" / "b" / "c", below=tmp_path)

    assert (tmp_path / "a" / "b" / "c").is_dir()
