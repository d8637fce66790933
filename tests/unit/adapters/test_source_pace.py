"""How slow a place may be that an adapter is fetched from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.manifest import CONFIG_FILE, TENSOR_FILE, manifest_of_folder
from adapters.source import AdapterSource
from adapters.source_errors import SourceUnreachable
from adapters.source_folder import FolderPlace
from adapters.source_place import Stamp

MAX_BYTES = 1024**2


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "support"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text("{}")
    (folder / TENSOR_FILE).write_bytes(b"weights" * 1000)
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


async def test_a_place_that_gives_too_little_each_second_is_given_up(
    adapter: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the time as such: a large adapter may take long, a small one may not."""
    chunks = FolderPlace.stream

    async def drip(place: FolderPlace, name: str, stamp: Stamp) -> AsyncIterator[bytes]:
        async for chunk in chunks(place, name, stamp):
            await asyncio.sleep(0.2)
            yield chunk

    monkeypatch.setattr(FolderPlace, "stream", drip)
    monkeypatch.setattr("adapters.source._GRACE_SECONDS", 0.05)
    source = AdapterSource.open(adapter.as_uri(), folders=[adapter.parent])

    with pytest.raises(SourceUnreachable, match="less than 1000000 bytes each second"):
        await source.fetch(into, max_bytes=MAX_BYTES, min_bytes_per_second=1_000_000)


async def test_a_place_that_is_fast_enough_is_read_whole(adapter: Path, into: Path) -> None:
    source = AdapterSource.open(adapter.as_uri(), folders=[adapter.parent])

    found = await source.fetch(into, max_bytes=MAX_BYTES, min_bytes_per_second=1000)

    assert manifest_of_folder(found.folder) == manifest_of_folder(adapter)
