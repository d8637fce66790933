"""Which base an engine says that it serves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.base_model import read_base_model
from bench.fixtures.base_model import tiny_base
from serving.engine.compat.base_revision import base_revision
from serving.engine.ports import UNKNOWN_BASE


def test_it_is_the_controllers_own_revision_of_the_same_folder() -> None:
    model = SimpleNamespace(model=str(tiny_base()), revision=None)

    assert base_revision(model) == read_base_model(tiny_base()).revision


def test_a_hub_id_is_found_where_the_hub_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def snapshot_download(name: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append((name, revision, local_files_only))
        return str(tiny_base())

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)

    found = base_revision(SimpleNamespace(model="acme/tiny", revision="v1"))

    assert found == read_base_model(tiny_base()).revision
    assert asked == [("acme/tiny", "v1", True)]


def test_a_base_that_cannot_be_read_is_unknown_and_never_a_guess(tmp_path: Path) -> None:
    assert base_revision(SimpleNamespace(model=str(tmp_path), revision=None)) == UNKNOWN_BASE
    assert base_revision(SimpleNamespace(model="no/such", revision=None)) == UNKNOWN_BASE
