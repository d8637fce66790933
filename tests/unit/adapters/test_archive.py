"""Upload archives: good ones in every form, and every trick that is refused."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.archive import is_archive, unpack
from adapters.bounded_stream import BoundedStream
from adapters.errors import ArchiveRefused, ArtifactError, ArtifactTooLarge
from adapters.limits import ArchiveLimits
from adapters.manifest import CONFIG_FILE, FINGERPRINT_FILE, TENSOR_FILE

GOOD = {CONFIG_FILE: b"{}", TENSOR_FILE: b"weights" * 100}
LIMITS = ArchiveLimits()
Writer = Callable[[Path, dict[str, bytes]], Path]


def write_tar(path: Path, files: dict[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_tar_gz(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, files, mode="w:gz")


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


WRITERS: dict[str, Writer] = {"tar": write_tar, "tar.gz": write_tar_gz, "zip": write_zip}


@pytest.fixture(params=sorted(WRITERS))
def write(request: pytest.FixtureRequest) -> Writer:
    return WRITERS[request.param]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def reason_of(path: Path, into: Path, limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(ArchiveRefused) as refused:
        unpack(path, into, limits)
    return str(refused.value.fields["reason"])


def test_the_artifacts_files_come_out(write: Writer, tmp_path: Path, into: Path) -> None:
    path = write(tmp_path / "a", GOOD | {FINGERPRINT_FILE: b"[]"})

    unpacked = unpack(path, into, LIMITS)

    assert unpacked.files == tuple(sorted([*GOOD, FINGERPRINT_FILE]))
    assert {name: (into / name).read_bytes() for name in GOOD} == GOOD
    assert is_archive(path)


def test_one_folder_around_all_is_allowed(write: Writer, tmp_path: Path, into: Path) -> None:
    path = write(tmp_path / "a", {f"./my-adapter/{name}": data for name, data in GOOD.items()})

    assert unpack(path, into, LIMITS).files == tuple(sorted(GOOD))
    assert sorted(item.name for item in into.iterdir()) == sorted(GOOD)


def test_harmless_other_files_are_left_out_and_named(
    write: Writer, tmp_path: Path, into: Path
) -> None:
    more = {"README.md": b"hello", "tokenizer.json": b"{}", "._x": b"", "__MACOSX/y": b""}

    unpacked = unpack(write(tmp_path / "a", GOOD | more), into, LIMITS)

    assert unpacked.ignored == tuple(sorted(more))
    assert sorted(item.name for item in into.iterdir()) == sorted(GOOD)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "path_traversal"),
        ("a/../../evil", "path_traversal"),
        ("/etc/evil", "absolute_or_foreign_path"),
        ("a\\..\\evil", "absolute_or_foreign_path"),
        ("C:evil", "absolute_or_foreign_path"),
        ("evil\n", "name_not_printable"),
        ("x" * 300, "name_not_printable"),
        ("a/b/c.json", "nested_folders"),
        ("training_args.bin", "pickle"),
        ("adapter_model.PT", "pickle"),
        ("optimizer.pkl", "pickle"),
    ],
)
def test_a_member_that_could_do_harm_refuses_the_archive(
    name: str, reason: str, write: Writer, tmp_path: Path, into: Path
) -> None:
    assert reason_of(write(tmp_path / "a", {name: b"x", **GOOD}), into) == reason
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "into"]


def test_files_in_two_folders_are_refused(write: Writer, tmp_path: Path, into: Path) -> None:
    files = {"one/x.json": b"", "two/y.json": b""}

    assert reason_of(write(tmp_path / "a", files), into) == "nested_folders"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path: Path, into: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        for data in ("{}", "[]"):
            archive.writestr(CONFIG_FILE, data)
    with tarfile.open(tmp_path / "tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo(FINGERPRINT_FILE))

    assert reason_of(tmp_path / "zip", into) == "duplicate_member"
    assert reason_of(tmp_path / "tar", into) == "duplicate_member"


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_an_archive_without_a_required_file_is_refused(
    missing: str, write: Writer, tmp_path: Path, into: Path
) -> None:
    files = {name: data for name, data in GOOD.items() if name != missing}

    assert reason_of(write(tmp_path / "a", files), into) == "file_missing"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_device_in_a_tar_is_refused(kind: bytes, tmp_path: Path, into: Path) -> None:
    info = tarfile.TarInfo(CONFIG_FILE)
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a", "w") as archive:
        archive.addfile(info)

    assert reason_of(tmp_path / "a", into) == "link_or_device"
    assert list(into.iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path, into: Path) -> None:
    info = zipfile.ZipInfo(CONFIG_FILE)
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc/passwd")

    assert reason_of(tmp_path / "a", into) == "link_or_device"


def test_folders_as_members_are_no_offence(tmp_path: Path, into: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.mkdir("x")
        for name, data in GOOD.items():
            archive.writestr(f"x/{name}", data)
    with tarfile.open(tmp_path / "tar", "w") as tar:
        folder = tarfile.TarInfo(".")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in GOOD.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    other = tmp_path / "other"
    other.mkdir()

    assert unpack(tmp_path / "zip", into, LIMITS).files == tuple(sorted(GOOD))
    assert unpack(tmp_path / "tar", other, LIMITS).files == tuple(sorted(GOOD))


class TestBombs:
    def test_too_many_members(self, write: Writer, tmp_path: Path, into: Path) -> None:
        path = write(tmp_path / "a", {f"{number}.txt": b"" for number in range(20)})

        with pytest.raises(ArtifactTooLarge):
            unpack(path, into, ArchiveLimits(max_members=10))

    def test_too_many_bytes(self, write: Writer, tmp_path: Path, into: Path) -> None:
        path = write(tmp_path / "a", GOOD)

        with pytest.raises(ArtifactTooLarge):
            unpack(path, into, ArchiveLimits(max_total_bytes=100))

    @pytest.mark.parametrize("name", [TENSOR_FILE, "README.md"])
    @pytest.mark.parametrize("form", ["tar.gz", "zip"])
    def test_a_member_that_blows_up(self, form: str, name: str, tmp_path: Path, into: Path) -> None:
        path = WRITERS[form](tmp_path / "a", {name: b"\0" * (64 * 1024**2)})

        with pytest.raises(ArtifactError) as refused:
            unpack(path, into, LIMITS)

        assert isinstance(refused.value, (ArchiveRefused, ArtifactTooLarge))
        assert sum(item.stat().st_size for item in into.iterdir()) <= 32 * 1024**2

    def test_a_tar_header_of_many_megabytes(self, tmp_path: Path, into: Path) -> None:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "a" * (64 * 1024**2)}
        with tarfile.open(tmp_path / "a", "w:gz", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(info)

        with pytest.raises(ArtifactTooLarge):
            unpack(tmp_path / "a", into, LIMITS)

    def test_a_zip_whose_member_list_is_huge(self, tmp_path: Path, into: Path) -> None:
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 2**31, 0, 0)
        (tmp_path / "a").write_bytes(b"PK\x03\x04" + bytes(600) + end)

        with pytest.raises(ArtifactTooLarge):
            unpack(tmp_path / "a", into, LIMITS)

    def test_a_zip_with_a_second_end_record(self, tmp_path: Path, into: Path) -> None:
        raw = write_zip(tmp_path / "a", GOOD).read_bytes()
        at = raw.rfind(b"PK\x05\x06")
        (tmp_path / "a").write_bytes(raw[:at] + b"PK\x06\x07" + bytes(16) + raw[at:])

        assert reason_of(tmp_path / "a", into) == "zip64"

    def test_a_sparse_member(self, tmp_path: Path, into: Path) -> None:
        info = tarfile.TarInfo(TENSOR_FILE)
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
        with tarfile.open(tmp_path / "a", "w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(info)

        assert reason_of(tmp_path / "a", into) == "link_or_device"


class TestDamage:
    def test_what_is_no_archive(self, tmp_path: Path, into: Path) -> None:
        (tmp_path / "a").write_bytes(b"hello")

        assert not is_archive(tmp_path / "a")
        assert reason_of(tmp_path / "a", into) == "not_an_archive"

    def test_a_file_that_is_cut_off(self, write: Writer, tmp_path: Path, into: Path) -> None:
        path = write(tmp_path / "a", GOOD | {TENSOR_FILE: random.Random(0).randbytes(50_000)})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])

        assert reason_of(path, into) in {"damaged", "size_lies", "file_missing"}

    def test_flipped_bytes_in_a_zip(self, tmp_path: Path, into: Path) -> None:
        path = write_zip(tmp_path / "a", GOOD)
        raw = bytearray(path.read_bytes())
        at = raw.find(TENSOR_FILE.encode()) + len(TENSOR_FILE)
        raw[at + 2 : at + 6] = b"\xff\xff\xff\xff"
        path.write_bytes(bytes(raw))

        assert reason_of(path, into) == "damaged"

    def test_an_encrypted_zip(self, tmp_path: Path, into: Path) -> None:
        path = write_zip(tmp_path / "a", GOOD)
        raw = bytearray(path.read_bytes())
        at = raw.find(b"PK\x01\x02")
        raw[6] |= 1
        raw[at + 8] |= 1
        path.write_bytes(bytes(raw))

        assert reason_of(path, into) == "damaged"

    def test_a_rare_compression(self, tmp_path: Path, into: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr(CONFIG_FILE, "{}")

        assert reason_of(tmp_path / "a", into) == "compression_method"

    def test_gzip_of_something_else(self, tmp_path: Path, into: Path) -> None:
        (tmp_path / "a").write_bytes(gzip.compress(b"hello"))

        assert reason_of(tmp_path / "a", into) == "damaged"

    def test_a_zip_without_an_end(self, tmp_path: Path, into: Path) -> None:
        (tmp_path / "a").write_bytes(b"PK\x03\x04" + bytes(600))

        assert reason_of(tmp_path / "a", into) == "damaged"


class TestBoundedStream:
    def test_reading_within_the_bounds(self) -> None:
        stream = BoundedStream(io.BytesIO(b"abcdef"), max_position=6)

        assert stream.read(2) == b"ab"
        assert stream.seek(1, io.SEEK_CUR) == 3
        assert stream.tell() == 3
        assert stream.seek(0) == 0

    def test_a_read_without_a_size_is_refused(self) -> None:
        with pytest.raises(ArtifactTooLarge):
            BoundedStream(io.BytesIO(b"abc"), max_position=6).read()

    def test_moving_far_beyond_is_refused(self) -> None:
        with pytest.raises(ArtifactTooLarge):
            BoundedStream(io.BytesIO(b"abc"), max_position=6).seek(2**30)
