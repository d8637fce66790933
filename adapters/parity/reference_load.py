"""Strict loading of an adapter into the standalone base: link B of the gate.

PEFT only warns when tensors are left over or missing, and then computes something else. Here the
file's tensors and the model's must be the same set, with the same shapes and finite values, and
after loading the model must hold exactly the file's values.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file

from adapters.errors import ArtifactError, StrictLoadFailed
from adapters.parity.fingerprint_file import read_module_facts
from adapters.parity.protocol import ModuleFacts
from adapters.peft_config import LoraSpec, parse_lora_config

ADAPTER_NAME = "candidate"
CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"


class LoadedAdapter(NamedTuple):
    """The base with the adapter beside it, unmerged, and the modules as they are applied."""

    model: Any
    modules: tuple[ModuleFacts, ...]


def load_strictly(base: Any, folder: Path) -> LoadedAdapter:
    """Put an adapter on `base` (in place; `unload` takes it off again).

    The adapter computes in the base's number type, as the engine's does. After a failure `base` may
    hold half an adapter: throw it away.

    Raises:
        StrictLoadFailed: the files can't be read, use a feature that changes the base, or the
            tensors are not exactly those of the model.
    """
    spec = _read_spec(folder)
    tensors = _read_tensors(folder)
    model = _inject(base, folder)
    _compare(_state(model), tensors)
    set_peft_model_state_dict(model, dict(tensors), adapter_name=ADAPTER_NAME)
    _check_consumed(_state(model), tensors)
    model.requires_grad_(False)
    model.eval()
    facts = read_module_facts(spec, folder / TENSOR_FILE)
    return LoadedAdapter(model, _with_live_scalings(model, facts))


def unload(loaded: LoadedAdapter) -> Any:
    """Take the adapter off; returns the bare base."""
    base = loaded.model.unload()
    # PEFT leaves its config on the base, and would take it for an adapter that is still there.
    if hasattr(base, "peft_config"):
        del base.peft_config
    return base


def live_scalings(model: Any, adapter_name: str) -> dict[str, float]:
    """The factor that each adapted module of a PEFT model really applies, by module name."""
    return {
        name: float(module.scaling[adapter_name])
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and adapter_name in module.scaling
    }


def _read_spec(folder: Path) -> LoraSpec:
    try:
        spec = parse_lora_config((folder / CONFIG_FILE).read_bytes())
    except (OSError, ArtifactError) as exc:
        raise StrictLoadFailed(problem=f"{CONFIG_FILE} cannot be read: {exc}") from exc
    for finding in spec.findings:
        # Biases, PiSSA and the like write into the base, which is kept for the next adapter.
        if finding.is_blocking:
            problem = f"{finding.code} ({finding.where}): {finding.found!r}"
            raise StrictLoadFailed(problem=problem)
    return spec


def _read_tensors(folder: Path) -> Mapping[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(folder / TENSOR_FILE)
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        raise StrictLoadFailed(problem=f"{TENSOR_FILE} cannot be read: {exc}") from exc
    non_finite = [name for name, item in tensors.items() if not bool(torch.isfinite(item).all())]
    if non_finite:
        raise StrictLoadFailed(non_finite=sorted(non_finite))
    return tensors


def _inject(base: Any, folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            config.init_lora_weights = True  # overwritten below; others could write into the base
            return PeftModel(base, config, adapter_name=ADAPTER_NAME, autocast_adapter_dtype=False)
    except (ValueError, TypeError, RuntimeError, KeyError) as exc:
        raise StrictLoadFailed(problem=f"PEFT cannot build the adapter: {exc}") from exc


def _state(model: Any) -> Mapping[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model, adapter_name=ADAPTER_NAME, save_embedding_layers=False
    )
    return state


def _compare(wanted: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    missing = sorted(set(wanted) - set(tensors))
    unexpected = sorted(set(tensors) - set(wanted))
    if missing or unexpected:
        raise StrictLoadFailed(missing=missing, unexpected=unexpected)
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            problem = (
                f"{name} is {tuple(tensor.shape)}, the model wants {tuple(wanted[name].shape)}"
            )
            raise StrictLoadFailed(problem=problem)


def _check_consumed(held: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    different = [
        name
        for name, tensor in tensors.items()
        if not torch.equal(held[name], tensor.to(held[name].device, held[name].dtype))
    ]
    if different:
        problem = "the model does not hold the file's values after loading"
        raise StrictLoadFailed(unexpected=sorted(different), problem=problem)
    overflown = [name for name, item in held.items() if not bool(torch.isfinite(item).all())]
    if overflown:
        problem = "finite in the file, not finite in the number type that is served"
        raise StrictLoadFailed(non_finite=sorted(overflown), problem=problem)


def _with_live_scalings(model: Any, facts: tuple[ModuleFacts, ...]) -> tuple[ModuleFacts, ...]:
    live = live_scalings(model, ADAPTER_NAME)
    return tuple(msgspec.structs.replace(item, scaling=live[item.module]) for item in facts)
