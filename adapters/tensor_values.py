"""Streaming look at an adapter's values with numpy: largest magnitude, NaN, infinity.

Reads a few MiB at a time and needs no torch. It only measures; `preflight` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from adapters.errors import TensorFileInvalid
from adapters.tensor_index import DTYPE_BYTES, TensorEntry, TensorIndex

CHUNK_BYTES = 4 * 1024**2
SCANNED_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class TensorStats:
    """`max_abs` is over the finite values, 0.0 when there are none."""

    max_abs: float
    n_not_finite: int

    @property
    def is_zero(self) -> bool:
        """Every value is exactly zero."""
        return self.max_abs == 0.0 and self.n_not_finite == 0


@dataclass(frozen=True, slots=True)
class EngineNumbers:
    """What a number type of the engine can hold.

    Magnitudes of `overflow_at` and more round to infinity, of `zero_at` and less to zero.
    """

    overflow_at: float
    zero_at: float


# Halves of the last place above the largest, and of the smallest subnormal (ties go to even).
ENGINE_NUMBERS: Mapping[str, EngineNumbers] = {
    "float32": EngineNumbers((2 - 2**-24) * 2.0**127, 2.0**-150),
    "bfloat16": EngineNumbers((2 - 2**-8) * 2.0**127, 2.0**-134),
    "float16": EngineNumbers(65520.0, 2.0**-25),
}


def scan_values(path: Path, index: TensorIndex) -> dict[str, TensorStats]:
    """Statistics of every tensor of a number type in `SCANNED_DTYPES`, by tensor name.

    Raises:
        TensorFileInvalid: the file became shorter than its index says.
        OSError: the file cannot be read.
    """
    in_order = sorted(index.tensors.values(), key=lambda entry: entry.start)
    with path.open("rb") as file:
        return {
            entry.name: _scan(file, entry) for entry in in_order if entry.dtype in SCANNED_DTYPES
        }


def _scan(file: BinaryIO, entry: TensorEntry) -> TensorStats:
    file.seek(entry.start)
    left, max_abs, n_not_finite = entry.size_bytes, 0.0, 0
    while left:
        data = file.read(min(left, CHUNK_BYTES))
        if not data or len(data) % DTYPE_BYTES[entry.dtype]:
            raise TensorFileInvalid(reason="truncated", tensor=entry.name)
        left -= len(data)
        values = decode_values(data, entry.dtype)
        finite = np.isfinite(values)
        n_bad = int(values.size - np.count_nonzero(finite))
        n_not_finite += n_bad
        magnitudes = np.abs(values[finite] if n_bad else values)
        max_abs = max(max_abs, float(magnitudes.max(initial=0.0)))
    return TensorStats(max_abs, n_not_finite)


def decode_values(data: bytes, dtype: str) -> NDArray[np.floating]:
    """Little-endian bytes of one of `SCANNED_DTYPES` as numbers of the same value."""
    if dtype == "BF16":
        # A bfloat16 is the upper half of a float32.
        wide = np.frombuffer(data, dtype="<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)
    names = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return np.frombuffer(data, dtype=names[dtype])
