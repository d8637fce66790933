"""An adapter merged into its base: the checkpoint of an engine that serves one tenant alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


class MergeFailed(ValueError):
    """The adapter is not of this base; the text names the module."""


def write_merged(base: Path, adapter: Path, folder: Path, *, dtype: str) -> Path:
    """Write base + scale x B x A of every module to `folder` in `dtype`; returns `folder`.

    Sums are in float32. Sharded checkpoints stay sharded.

    Raises:
        MergeFailed: a module of the adapter is not in the base, or has other sizes.
    """
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    deltas = deltas_of(
        load_file(str(adapter / "adapter_model.safetensors")), config["lora_alpha"] / config["r"]
    )
    wanted = getattr(torch, dtype)
    for path in sorted(base.iterdir()):
        if path.suffix != ".safetensors":
            shutil.copy(path, folder / path.name)
            continue
        tensors = {
            name: merge(tensor, deltas.pop(name, None), name).to(wanted)
            for name, tensor in load_file(str(path)).items()
        }
        save_file(tensors, str(folder / path.name), metadata={"format": "pt"})
    if deltas:
        raise MergeFailed(f"the base has no {min(deltas)}")
    return folder


def deltas_of(adapter: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """What an adapter's tensors add, by the name of the base's weight."""
    deltas = {}
    for name, down in adapter.items():
        if name.endswith(_DOWN):
            module = name.removesuffix(_DOWN)
            up = adapter[module + _UP]
            weight = f"{module.removeprefix(_PREFIX)}.weight"
            deltas[weight] = scale * (up.float() @ down.float())
    return deltas


def merge(weight: Any, delta: Any, name: str) -> Any:
    """The sum in float32; the weight itself without a delta.

    Raises:
        MergeFailed: their sizes differ.
    """
    if delta is None:
        return weight
    if weight.shape != delta.shape:
        raise MergeFailed(f"{name}: {tuple(delta.shape)} is not {tuple(weight.shape)}")
    return weight.float() + delta
