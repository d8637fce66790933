"""Upload archives that try to harm whoever unpacks them; each is built around a good adapter."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from bench.fixtures.adapter_files import CONFIG, TENSORS

Pack = Callable[[Path], bytes]
_BOMB_BYTES = 64 * 1024**2


def _tar(folder: Path, spoil: Callable[[tarfile.TarFile], None], *, is_whole: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        if is_whole:
            for name in (CONFIG, TENSORS):
                archive.add(folder / name, arcname=name)
        spoil(archive)
    return buffer.getvalue()


def _file(archive: tarfile.TarFile, name: str, data: bytes = b"{}") -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _special(archive: tarfile.TarFile, kind: bytes, target: str = "") -> None:
    member = tarfile.TarInfo("tokenizer.json")
    member.type, member.linkname = kind, target
    archive.addfile(member)


def _with(spoil: Callable[[tarfile.TarFile], None]) -> Pack:
    return lambda folder: _tar(folder, spoil)


def _bomb(folder: Path) -> bytes:
    def fill(archive: tarfile.TarFile) -> None:
        archive.add(folder / CONFIG, arcname=CONFIG)
        _file(archive, TENSORS, bytes(_BOMB_BYTES))

    return _tar(folder, fill, is_whole=False)


def _cut_off(folder: Path) -> bytes:
    whole = _tar(folder, lambda archive: None)
    return whole[: len(whole) // 2]


ARCHIVES: dict[str, tuple[Pack, str]] = {
    "archive_leaves_its_folder": (
        _with(lambda a: _file(a, "../adapter_config.json")),
        "path_traversal",
    ),
    "archive_with_an_absolute_path": (
        _with(lambda a: _file(a, "/etc/adapter_config.json")),
        "absolute_or_foreign_path",
    ),
    "archive_with_a_symbolic_link": (
        _with(lambda a: _special(a, tarfile.SYMTYPE, "/etc/passwd")),
        "link_or_device",
    ),
    "archive_with_a_hard_link": (
        _with(lambda a: _special(a, tarfile.LNKTYPE, CONFIG)),
        "link_or_device",
    ),
    "archive_with_a_device": (_with(lambda a: _special(a, tarfile.CHRTYPE)), "link_or_device"),
    "archive_with_a_pickle": (
        _with(lambda a: _file(a, "training_args.bin", b"\x80\x04.")),
        "pickle",
    ),
    "archive_with_a_file_twice": (_with(lambda a: _file(a, CONFIG)), "duplicate_member"),
    "archive_that_inflates": (_bomb, "compression_ratio"),
    "archive_cut_off": (_cut_off, "damaged"),
}
"""What packs a good folder into each kind of bad archive, and the reason that names it."""
