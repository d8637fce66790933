"""The engine's local artifacts: immutable folders by digest, verified once per life."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.durable import remove_folder, scratch_folder
from adapters.errors import NameError_
from adapters.identity import parse_digest
from adapters.store import ArtifactStore, folder_name


class LocalArtifacts:
    """Folders under one parent. A digest is `verified` once its bytes were read in this life."""

    def __init__(self, parent: Path) -> None:
        self.verified: frozenset[str] = frozenset()
        self._parent = parent
        self._stores: dict[str, ArtifactStore] = {}
        self.on_disk = frozenset(_digests_in(parent))
        """Digests with a folder."""

    def path(self, digest: str) -> Path:
        """Where this artifact is, or will be; the same for ever."""
        return self._parent.absolute() / folder_name(digest)

    async def fetch(self, digest: str, store_url: str) -> None:
        """Have verified bytes on disk; the store is asked only when they are not there already.

        Raises:
            ArtifactNotFound, DigestMismatch, StoreUnavailable: as `ArtifactStore.fetch`.
        """
        store = self._stores.get(store_url)
        if store is None:
            store = await asyncio.to_thread(ArtifactStore.from_url, store_url)
            self._stores[store_url] = store
        await store.fetch(digest, self._parent)
        self.on_disk |= {digest}
        self.verified |= {digest}

    def distrust(self, digest: str) -> None:
        """The bytes may have changed on disk; they are read again before they are used."""
        self.verified -= {digest}

    async def forget(self, digest: str) -> None:
        """Delete the folder."""
        self.verified -= {digest}
        await asyncio.to_thread(_delete, self._parent, self.path(digest))
        self.on_disk -= {digest}


def _digests_in(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    digests = []
    for folder in parent.iterdir():
        try:
            digests.append(parse_digest(folder.name.replace("-", ":", 1)))
        except NameError_:
            continue
    return [str(digest) for digest in digests]


def _delete(parent: Path, folder: Path) -> None:
    if not folder.is_dir():
        return
    with scratch_folder(parent) as scratch:
        # Renamed first: nobody may see a folder of this name that is being emptied.
        folder.rename(scratch / "retired")
        remove_folder(scratch / "retired")
