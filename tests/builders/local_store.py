"""Puts an adapter folder where a local store keeps it, and names it as a snapshot does."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from adapters.identity import parse_version_id
from serving.contract import ArtifactFile, Role, VersionEntry


def place(folder: Path, store: Path) -> tuple[str, list[ArtifactFile]]:
    """Copy into the store's layout; returns digest and files, as the store names them."""
    files = [
        ArtifactFile(
            name=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size_bytes=path.stat().st_size,
        )
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    lines = "".join(f"{file.name} {file.size_bytes} {file.sha256}\n" for file in files)
    hexadecimal = hashlib.sha256(lines.encode()).hexdigest()
    target = store / "sha256" / hexadecimal[:2] / hexadecimal
    if not target.exists():
        shutil.copytree(folder, target)
    return f"sha256:{hexadecimal}", files


def entry(
    name: str, folder: Path, store: Path, *, role: Role = Role.SERVING, attempt: int = 0
) -> VersionEntry:
    """The snapshot's entry of a version whose artifact is placed in the store."""
    digest, files = place(folder, store)
    version = parse_version_id(name)
    return VersionEntry(
        name=name,
        tenant=version.tenant,
        adapter=version.adapter,
        number=version.number,
        digest=digest,
        files=files,
        rank=8,
        role=role,
        attempt=attempt,
    )
