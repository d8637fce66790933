"""Fixtures appear complete or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bench.fixtures.cache import cache_key, cached


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORAPLANE_FIXTURES", str(tmp_path))
    return tmp_path


def test_another_recipe_is_another_key() -> None:
    assert cache_key("base", {"seed": 1}) != cache_key("base", {"seed": 2})
    assert cache_key("base", {"a": 1, "b": 2}) == cache_key("base", {"b": 2, "a": 1})


def test_a_build_that_fails_leaves_nothing(own_folder: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("killed on the way")

    with pytest.raises(RuntimeError, match="killed"):
        cached("thing-1", build)

    assert [path.name for path in own_folder.iterdir() if path.is_dir()] == []


def test_the_draft_of_a_killed_build_is_cleared_away(own_folder: Path) -> None:
    (own_folder / ".thing-1-killed").mkdir()

    folder = cached("thing-1", lambda draft: (draft / "whole").touch())

    assert (folder / "whole").exists()
    assert not (own_folder / ".thing-1-killed").exists()


def test_those_who_ask_at_once_build_once() -> None:
    built, folders = list[int](), list[Path]()

    def build(folder: Path) -> None:
        built.append(1)
        time.sleep(0.1)
        (folder / "file").write_text("whole")

    threads = [
        threading.Thread(target=lambda: folders.append(cached("thing-1", build))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(built) == 1
    assert [(folder / "file").read_text() for folder in folders] == ["whole"] * 4
