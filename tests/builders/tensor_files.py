"""Writes safetensors files byte by byte, legal ones and others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int32": "I32", "uint8": "U8"}
BF16 = np.dtype([("bf16", "<u2")])
"""Stands for bfloat16, which numpy does not have; see `to_bfloat16`."""

Array = NDArray[Any]


def to_bfloat16(values: Array) -> Array:
    """Upper halves of float32 values, which is bfloat16 rounded towards zero."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view(BF16)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> Path:
    """Write a legal file, tensors in the order of their names."""
    entries: dict[str, dict[str, Any]] = {}
    data = bytearray()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        start = len(data)
        data += array.tobytes()
        entries[name] = {
            "dtype": "BF16" if array.dtype == BF16 else _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, len(data)],
        }
    path.write_bytes(pack({"__metadata__": {"format": "pt"}, **entries}, bytes(data)))
    return path


def pack(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of any header (JSON value, text or bytes) and a stated, perhaps wrong, length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def read_tensors(path: Path) -> dict[str, Array]:
    """The inverse of `write_tensors` for a legal file."""
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    numpy_types: dict[str, Any] = {code: name for name, code in _DTYPES.items()} | {"BF16": BF16}
    result = {}
    for name, entry in json.loads(raw[8 : 8 + n]).items():
        if name != "__metadata__":
            start, end = (8 + n + offset for offset in entry["data_offsets"])
            values = np.frombuffer(raw[start:end], dtype=numpy_types[entry["dtype"]])
            result[name] = values.reshape(entry["shape"]).copy()
    return result
