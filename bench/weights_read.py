"""How many bytes of weights a decode step must read: what bounds it where memory is the limit."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def n_parameters(base: Path) -> int:
    """Of all tensors in the base's safetensors files; from their headers alone."""
    total = 0
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        total += sum(math.prod(tensor["shape"]) for tensor in header.values())
    return total


def base_bytes(base: Path, dtype: str) -> float:
    """Of the base's weights as the engine keeps them; NaN for a dtype that is not known before."""
    return float(n_parameters(base) * _BYTES[dtype]) if dtype in _BYTES else math.nan


def bound_of(n_adapters: int, *, n_slots: int, base: float, slot: float) -> float:
    """Throughput of a full batch of so many adapters against one adapter's, if reading is all.

    `base` and `slot` are bytes; a step reads each slot in use once, however many rows it has.
    """
    return (base + slot) / (base + min(n_adapters, n_slots) * slot)
