"""A base model is a folder, or a hub id that is in the hub's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.base_folder import find_base_folder
from adapters.errors import BaseModelError


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_base_folder(str(tmp_path)) == tmp_path


def test_a_hub_id_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="no huggingface_hub here")
    commit = "a" * 40
    repository = tmp_path / "models--acme--base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert find_base_folder("acme/base") == snapshot


def test_what_is_neither_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="no huggingface_hub here")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(BaseModelError) as caught:
        find_base_folder(str(tmp_path / "absent"))

    assert "neither a folder nor a hub id" in caught.value.fields["reason"]
