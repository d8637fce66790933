"""Real PEFT adapters with random weights for any base: cheap, and each answers differently."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def random_adapter(base: Path, folder: Path, *, seed: int, size: float = 0.3) -> Path:
    """Write an adapter whose B is random with standard deviation `size`; returns `folder`."""
    template_config, tensors = _template(base)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(template_config)
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name in sorted(tensors):
        noise = torch.randn(tensors[name].shape, generator=generator)
        made[name] = noise * (size if ".lora_B." in name else 0.2)
    save_file(made, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def edit_tensors(folder: Path, *, drop: str | None = None, scale: float | None = None) -> Path:
    """Drop the tensors whose name contains `drop`, or multiply every tensor by `scale`."""
    file = folder / "adapter_model.safetensors"
    tensors = {
        name: tensor * scale if scale is not None else tensor
        for name, tensor in load_file(file).items()
        if drop is None or drop not in name
    }
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@cache
def _template(base: Path) -> tuple[str, dict[str, torch.Tensor]]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=_PROJECTIONS, task_type="CAUSAL_LM")
    )
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        wrapped.save_pretrained(name)
        config = (Path(name) / "adapter_config.json").read_text()
        tensors = load_file(Path(name) / "adapter_model.safetensors")
    return config, tensors
