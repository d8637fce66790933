"""Strict load check in the worker: taken only if the engine will compute with all of it.

vLLM 0.32 drops modules whose full name does not match, pads smaller shapes with zeros and takes any
value (lora/lora_model.py, lora/layers/*). This runs on the tensors as they were read and cast,
before anything is evicted.
"""

from __future__ import annotations

from typing import Any

import torch


class LoadRefusedInWorker(Exception):
    """The adapter must not be served; `reason` is a stable slug."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


def check_loaded_adapter(lora: Any, manager: Any) -> None:
    """Check names, pairs, shapes, ranks and values of a loaded `LoRAModel`.

    A layer's `rank` and `scaling` are what vLLM took from adapter_config.json, patterns included
    (PEFTHelper.get_rank_and_scaling); the tensors have to agree with them.

    Raises:
        LoadRefusedInWorker: with the first problem found.
    """
    shapes = module_shapes(manager)
    if not lora.loras:
        raise LoadRefusedInWorker("no_modules", "the file holds no LoRA tensors")
    for name, layer in lora.loras.items():
        if name not in shapes:
            raise LoadRefusedInWorker("module_not_served", f"{name} is no module of the engine")
        if layer.lora_a is None or layer.lora_b is None:
            raise LoadRefusedInWorker("pair_incomplete", f"{name} lacks lora_A or lora_B")
        _check_shapes(name, layer, shapes[name])
        for tensor, which in ((layer.lora_a, "lora_A"), (layer.lora_b, "lora_B")):
            if not bool(torch.isfinite(tensor).all()):
                raise LoadRefusedInWorker("non_finite", f"{name}.{which} has a NaN or Inf")
        if not bool(torch.isfinite(layer.lora_b * layer.scaling).all()):
            raise LoadRefusedInWorker("non_finite", f"{name}.lora_B overflows when scaled")


def _check_shapes(name: str, layer: Any, shape: tuple[int, int]) -> None:
    n_in, n_out = shape
    rank = layer.rank
    found = (tuple(layer.lora_a.shape), tuple(layer.lora_b.shape))
    wanted = ((rank, n_in), (n_out, rank))
    if found != wanted:
        raise LoadRefusedInWorker("shape_mismatch", f"{name} has A, B of {found}, not {wanted}")


def module_shapes(manager: Any) -> dict[str, tuple[int, int]]:
    """(in, out) of every module that the engine serves, under the names that adapters use.

    A packed layer (qkv_proj) appears as its parts; sizes are those of the whole layer, before any
    tensor-parallel split.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in manager.modules.items():
        base: Any = getattr(module, "base_layer", None)
        n_in = getattr(base, "input_size", None)
        if n_in is None:
            continue
        parts = manager.packed_modules.get(name)
        if parts:
            sizes = getattr(base, "output_sizes", None)
            if sizes is None or len(sizes) != len(parts):
                raise LoadRefusedInWorker("engine_layout", f"{name} has no size for its parts")
            shapes.update({part: (n_in, size) for part, size in zip(parts, sizes, strict=True)})
        else:
            shapes[name] = (n_in, base.output_size)
    return shapes
