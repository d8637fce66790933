"""LoRA adapters of random numbers for any base model, written without torch.

They have the shapes, the size and so the cost of trained ones, and hardly any effect on what the
model says. One tensor is in memory at a time, so a large base costs no more memory than a small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.base_model import BaseModelCard, ModuleShape
from adapters.errors import BaseModelError
from adapters.manifest import CONFIG_FILE, TENSOR_FILE

_SIZE = 0.01
"""Half the range of the values: an update of about 1e-3 of a weight, so no answer turns to NaN."""


def write_synthetic_adapter(
    folder: Path, card: BaseModelCard, *, rank: int, targets: Sequence[str], seed: int
) -> Path:
    """Write adapter_config.json and adapter_model.safetensors in bfloat16; returns `folder`.

    The same arguments write the same bytes. alpha is twice the rank.

    Raises:
        BaseModelError: the base has no linear module of these kinds.
        OSError: the folder cannot be written.
    """
    modules = _targeted(card, targets)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = sorted({name.rpartition(".")[2] for name in modules})
    config = _config(card, rank=rank, kinds=kinds)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    sizes = list(_tensor_shapes(modules, rank))
    random = np.random.default_rng(seed)
    with (folder / TENSOR_FILE).open("wb") as file:
        file.write(_header(sizes))
        for _, shape in sizes:
            file.write(_random_bfloat16(random, shape).tobytes())
    return folder


def _targeted(card: BaseModelCard, targets: Sequence[str]) -> dict[str, ModuleShape]:
    modules = {
        name: shape for name, shape in card.modules.items() if name.rpartition(".")[2] in targets
    }
    if not modules:
        found = sorted({name.rpartition(".")[2] for name in card.modules})
        raise BaseModelError(
            path=card.name,
            reason=f"has no module of target_modules {list(targets)}; it has {found}",
        )
    return modules


def _config(card: BaseModelCard, *, rank: int, kinds: list[str]) -> dict[str, Any]:
    return {
        "base_model_name_or_path": card.name,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": kinds,
        "task_type": "CAUSAL_LM",
    }


def _tensor_shapes(
    modules: dict[str, ModuleShape], rank: int
) -> Iterator[tuple[str, tuple[int, int]]]:
    """PEFT's names with A as (rank, in) and B as (out, rank), in the file's order."""
    for name, shape in sorted(modules.items()):
        prefix = f"base_model.model.{name}"
        yield f"{prefix}.lora_A.weight", (rank, shape.in_features)
        yield f"{prefix}.lora_B.weight", (shape.out_features, rank)


def _header(sizes: Sequence[tuple[str, tuple[int, int]]]) -> bytes:
    """The safetensors format: length of the JSON in 8 bytes, the JSON, then the values."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (rows, columns) in sizes:
        end = start + 2 * rows * columns
        entries[name] = {
            "dtype": "BF16",
            "shape": [rows, columns],
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The values begin at a multiple of 8 bytes.
    return len(text).to_bytes(8, "little") + text


def _random_bfloat16(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Uniform values within +-_SIZE; the upper halves of float32 are bfloat16."""
    values = random.random(shape, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(2 * _SIZE)
    return (values.view(np.uint32) >> np.uint32(16)).astype("<u2")
