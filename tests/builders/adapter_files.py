"""Small valid PEFT-style adapter folders for any base card; numpy alone, no torch.

`tests.builders.defects` corrupts them in every known way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base_model import DEFAULT_TARGET_MODULES, BaseModelCard
from tests.builders.tensor_files import Array, read_tensors, write_tensors

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"


def peft_config(
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: Sequence[str] | str = DEFAULT_TARGET_MODULES,
    base: str = "tiny-llama",
    **fields: Any,
) -> dict[str, Any]:
    """What PEFT 0.21's save_pretrained writes for a plain LoRA, with some fields changed."""
    return {
        "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None,
        "auto_mapping": None, "base_model_name_or_path": base, "bias": "none",
        "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
        "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
        "init_lora_weights": True, "kasa_config": None, "layer_replication": None,
        "layers_pattern": None, "layers_to_transform": None, "loftq_config": {},
        "lora_alpha": alpha, "lora_bias": False, "lora_dropout": 0.0, "lora_ga_config": None,
        "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
        "monteclora_config": None, "peft_type": "LORA", "peft_version": "0.21.2",
        "qalora_group_size": 16, "r": rank, "rank_pattern": {}, "revision": None,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "target_parameters": None, "task_type": "CAUSAL_LM", "trainable_token_indices": None,
        "use_bdlora": None, "use_dora": False, "use_qalora": False, "use_rslora": False,
        "velora_config": None, **fields,
    }  # fmt: skip


def lora_tensors(
    card: BaseModelCard,
    *,
    rank: int | Callable[[str], int] = 8,
    targets: Sequence[str] = DEFAULT_TARGET_MODULES,
    seed: int = 0,
    size: float = 0.02,
) -> dict[str, Array]:
    """Random A and B for every module of these kinds; `size` is B's standard deviation."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for module, shape in card.modules.items():
        if module.rpartition(".")[2] not in targets:
            continue
        r = rank(module) if callable(rank) else rank
        a = random.standard_normal((r, shape.in_features)) / np.sqrt(shape.in_features)
        b = random.standard_normal((shape.out_features, r)) * size
        tensors[tensor_name(module, "A")] = a.astype(np.float32)
        tensors[tensor_name(module, "B")] = b.astype(np.float32)
    return tensors


def tensor_name(module: str, side: str) -> str:
    """PEFT's name of one half."""
    return f"base_model.model.{module}.lora_{side}.weight"


def write_adapter(
    folder: Path,
    card: BaseModelCard,
    *,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> Path:
    """Write a folder; by default rank 8, alpha 16, all seven projections, and no defect."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = peft_config(base=card.name) if config is None else config
    (folder / CONFIG).write_text(json.dumps(settings, indent=2))
    write_tensors(folder / TENSORS, lora_tensors(card, seed=seed) if tensors is None else tensors)
    return folder


def edit_config(folder: Path, **fields: Any) -> None:
    """Change fields of the folder's adapter_config.json."""
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_tensors(folder: Path, edit: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
    """Replace the folder's tensors by what `edit` makes of them."""
    write_tensors(folder / TENSORS, edit(read_tensors(folder / TENSORS)))
