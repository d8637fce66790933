"""The safetensors header reader on legal files and on every kind of lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.errors import TensorFileInvalid
from adapters.tensor_index import MAX_HEADER_BYTES, MAX_NAME_LENGTH, parse_header, read_tensor_index
from bench.fixtures.tensor_files import Array, pack, write_tensors


def entry(start: int = 0, end: int = 4, **fields: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [start, end]} | fields


def reason_of(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorFileInvalid) as refused:
        read_tensor_index(path)
    return str(refused.value.fields["reason"])


def test_names_shapes_types_and_places_are_read(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {"b": np.zeros((2, 3), np.float16), "a": np.ones(5, np.float32)}

    index = read_tensor_index(write_tensors(tmp_path / "file", tensors))

    assert {name: (e.dtype, e.shape) for name, e in index.tensors.items()} == {
        "a": ("F32", (5,)),
        "b": ("F16", (2, 3)),
    }
    assert index.metadata == {"format": "pt"}
    assert index.tensors["b"].end == index.size_bytes == (tmp_path / "file").stat().st_size


def test_it_agrees_with_the_safetensors_library(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.zeros(0, np.float32)}
    numpy_files.save_file(tensors, tmp_path / "file")

    index = read_tensor_index(tmp_path / "file")

    place = index.tensors["x"]
    assert (tmp_path / "file").read_bytes()[place.start : place.end] == tensors["x"].tobytes()
    assert index.tensors["y"].size_bytes == 0


def test_padding_after_the_header_is_legal(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(json.dumps({"a": entry()}).encode() + b"   ", b"\0" * 4))

    assert set(read_tensor_index(path).tensors) == {"a"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "shorter_than_prefix"),
        (b"\x01\0\0", "shorter_than_prefix"),
        (pack(b"{}", length=MAX_HEADER_BYTES + 1), "header_too_long"),
        (pack(b"{}", length=3), "header_beyond_file"),
        (pack(b"{", b""), "header_not_json"),
        (pack(b"{\xff}"), "header_not_json"),
        (pack(b'{"a":' * 50_000), "header_not_json"),
        (pack(b"[]"), "header_not_object"),
        (pack(b" {}"), "header_not_object"),
        (pack(b'{"a": 1, "a": 2}'), "duplicate_key"),
        (pack(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "duplicate_key"),
        (pack({"__metadata__": {"a": 1}}), "metadata_not_text"),
        (pack({"__metadata__": []}), "metadata_not_text"),
        (pack({"": entry()}, b"\0" * 4), "name_not_printable"),
        (pack({"a\n": entry()}, b"\0" * 4), "name_not_printable"),
        (pack({"x" * (MAX_NAME_LENGTH + 1): entry()}, b"\0" * 4), "name_not_printable"),
        (pack({"a": []}), "entry_fields"),
        (pack({"a": entry(extra=1)}), "entry_fields"),
        (pack({"a": entry(dtype="F7")}), "dtype_unknown"),
        (pack({"a": entry(dtype=[])}), "dtype_unknown"),
        (pack({"a": entry(shape=[-1])}), "shape_invalid"),
        (pack({"a": entry(shape=[True])}), "shape_invalid"),
        (pack({"a": entry(shape=[1.0])}), "shape_invalid"),
        (pack({"a": entry(shape=[1] * 9)}), "shape_invalid"),
        (pack({"a": entry(shape=[2**60])}), "shape_invalid"),
        (pack({"a": entry(4, 0)}), "offsets_invalid"),
        (pack({"a": entry(data_offsets=[0])}), "offsets_invalid"),
        (pack({"a": entry(shape=[2])}), "size_differs_from_shape"),
        (pack({"a": entry(), "b": entry()}, b"\0" * 8), "overlap"),
        (pack({"a": entry(4, 8)}, b"\0" * 8), "hole"),
        (pack({"a": entry()}, b"\0" * 3), "truncated"),
        (pack({"a": entry()}, b"\0" * 5), "trailing_bytes"),
    ],
)
def test_a_lie_is_refused_by_name(content: bytes, reason: str, tmp_path: Path) -> None:
    assert reason_of(tmp_path, content) == reason


def test_too_many_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.tensor_index.MAX_TENSORS", 1)
    header = json.dumps({"a": entry(), "b": entry(4, 8)}).encode()

    with pytest.raises(TensorFileInvalid) as refused:
        parse_header(header, size_bytes=8 + len(header) + 8)

    assert refused.value.fields["reason"] == "too_many_tensors"
