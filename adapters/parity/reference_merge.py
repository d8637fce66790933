"""Merged weights: the adapter added into a copy of the base, for a server that knows no adapters.

The sum is made in float32. Saved in a shorter number type it is rounded, and an adapter's
contribution is small beside the weight that it is added to: how much of it is lost is measured.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError

from adapters.errors import ReferenceFailed
from adapters.parity.protocol import MergeFacts
from adapters.parity.reference_load import ADAPTER_NAME, LoadedAdapter


def save_merged(loaded: LoadedAdapter, folder: Path, *, tokenizer: Any) -> MergeFacts:
    """Write model and tokenizer to `folder`, in the base's number type; `loaded` stays as it is.

    Raises:
        ReferenceFailed: the folder cannot be written, or a merged weight is not finite.
    """
    base = loaded.model.get_base_model()
    state = {
        _plain_name(name): weight
        for name, weight in base.state_dict().items()
        if not _is_adapters(name)
    }
    exact_square = lost_square = 0.0
    n_modules = 0
    with torch.inference_mode():
        for name, module in base.named_modules():
            if not isinstance(module, LoraLayer) or ADAPTER_NAME not in module.scaling:
                continue
            weight = module.get_base_layer().weight
            delta = _delta(module)
            exact = weight.float() + delta
            saved = exact.to(weight.dtype)
            if not bool(torch.isfinite(saved).all()):
                raise ReferenceFailed(reason=f"{name}: the merged weight is not finite")
            state[f"{name}.weight"] = saved.contiguous()
            exact_square += float(delta.double().square().sum())
            lost_square += float((saved.float() - exact).double().square().sum())
            n_modules += 1
    _save(base, state, folder, tokenizer=tokenizer)
    lost = math.sqrt(lost_square / exact_square) if exact_square else None
    dtype = str(base.dtype).removeprefix("torch.")
    return MergeFacts(str(folder), dtype, n_modules, lost, is_exact=dtype == "float32")


def _delta(module: Any) -> torch.Tensor:
    down, up = module.lora_A[ADAPTER_NAME].weight, module.lora_B[ADAPTER_NAME].weight
    delta: torch.Tensor = (up.float() @ down.float()) * module.scaling[ADAPTER_NAME]
    return delta


def _save(base: Any, state: dict[str, Any], folder: Path, *, tokenizer: Any) -> None:
    # A model of the same shape without weights of its own: the loaded one keeps its adapter.
    with torch.device("meta"):
        plain = type(base)(base.config)
    plain.generation_config = base.generation_config
    try:
        plain.to(base.dtype).save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as exc:
        raise ReferenceFailed(reason=f"the merged model cannot be saved: {exc}") from exc


def _plain_name(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _is_adapters(name: str) -> bool:
    return ".lora_" in name
