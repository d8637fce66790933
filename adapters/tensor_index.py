"""safetensors header -> names, shapes, dtypes, offsets. Trusts no length, never loads a tensor.

Knows the file format alone; what LoRA names mean is in `tensor_names`, values in `tensor_values`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from adapters.errors import TensorFileInvalid

MAX_HEADER_BYTES = 16 * 1024**2
"""An adapter of 100 layers x 7 modules has a header of about 250 kB."""
MAX_TENSORS = 100_000
MAX_NAME_LENGTH = 512
_MAX_DIMENSIONS = 8
_MAX_SIZE = 2**40

DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of one element, of the number types whose elements are whole bytes."""

_NAME = re.compile(rf"[\x21-\x7e]{{1,{MAX_NAME_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor's place: `start` and `end` are offsets from the file's beginning, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class TensorIndex:
    """All tensors of one file by name; `metadata` is what the writer added."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    size_bytes: int


def read_tensor_index(path: Path) -> TensorIndex:
    """Read the header of a safetensors file.

    Raises:
        TensorFileInvalid: anything in the header is not exactly as the format says, or not covered
            by the file's size.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        header_bytes = header_length(prefix, size_bytes=size)
        header = file.read(header_bytes)
    return parse_header(header, size_bytes=size)


def header_length(prefix: bytes, *, size_bytes: int) -> int:
    """Length of the header from the file's first 8 bytes, checked against the file's size.

    Raises:
        TensorFileInvalid: shorter than a prefix, beyond the file, or over `MAX_HEADER_BYTES`.
    """
    if len(prefix) < 8:
        raise TensorFileInvalid(reason="shorter_than_prefix", found=len(prefix))
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise TensorFileInvalid(reason="header_too_long", found=length)
    if length + 8 > size_bytes:
        raise TensorFileInvalid(reason="header_beyond_file", found=length)
    return length


def parse_header(header: bytes, *, size_bytes: int) -> TensorIndex:
    """Parse a header's bytes; `size_bytes` is the whole file's size.

    Raises:
        TensorFileInvalid: see `read_tensor_index`.
    """
    raw = _load_json(header)
    metadata = raw.pop("__metadata__", {})
    if not _is_text_map(metadata):
        raise TensorFileInvalid(reason="metadata_not_text")
    if len(raw) > MAX_TENSORS:
        raise TensorFileInvalid(reason="too_many_tensors", found=len(raw))
    data_start = 8 + len(header)
    entries = [_parse_entry(name, value, data_start) for name, value in raw.items()]
    _check_layout(entries, data_start=data_start, size_bytes=size_bytes)
    return TensorIndex({entry.name: entry for entry in entries}, metadata, size_bytes)


def _load_json(header: bytes) -> dict[str, Any]:
    # The format wants the object at once; only the end may be padded with spaces.
    if not header.startswith(b"{"):
        raise TensorFileInvalid(reason="header_not_object")
    try:
        raw = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise TensorFileInvalid(reason="header_not_json") from exc
    return dict(raw)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # Two readers could pick different tensors.
        raise TensorFileInvalid(reason="duplicate_key")
    return result


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _parse_entry(name: str, value: Any, data_start: int) -> TensorEntry:
    shown = name[:120]
    if not _NAME.fullmatch(name):
        raise TensorFileInvalid(reason="name_not_printable", tensor=shown)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileInvalid(reason="entry_fields", tensor=shown)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise TensorFileInvalid(reason="dtype_unknown", tensor=shown, found=str(dtype)[:40])
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise TensorFileInvalid(reason="shape_invalid", tensor=shown)
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise TensorFileInvalid(reason="offsets_invalid", tensor=shown)
    if prod(shape) * DTYPE_BYTES[dtype] != offsets[1] - offsets[0]:
        raise TensorFileInvalid(
            reason="size_differs_from_shape", tensor=shown, found=offsets[1] - offsets[0]
        )
    return TensorEntry(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_sizes(value: Any) -> bool:
    # `type(...) is int` because True is an int to isinstance.
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= _MAX_SIZE for n in value)


def _check_layout(entries: list[TensorEntry], *, data_start: int, size_bytes: int) -> None:
    """Tensors have to cover the file from the header to its end, without holes or overlaps."""
    position = data_start
    for entry in sorted(entries, key=lambda item: (item.start, item.end)):
        if entry.start != position:
            reason = "overlap" if entry.start < position else "hole"
            raise TensorFileInvalid(reason=reason, tensor=entry.name[:120], found=entry.start)
        position = entry.end
    if position > size_bytes:
        raise TensorFileInvalid(reason="truncated", found=size_bytes)
    if position < size_bytes:
        raise TensorFileInvalid(reason="trailing_bytes", found=size_bytes - position)
