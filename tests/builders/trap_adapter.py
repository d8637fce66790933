"""An adapter that is fine until one token comes: finite weights, finite answers, then NaN.

The first layer's value projection sees RMSNorm(embedding) and nothing else, so what a token does
there is known in advance. A is orthogonal to every token of the given prompts and not
to the trigger; times B it stays far below the largest float32 for those and overflows for this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def make_trap_adapter(
    base: Path, folder: Path, *, safe_token_ids: set[int], trigger_token_id: int
) -> Path:
    """Write the adapter for a Llama base with float32 weights in one file."""
    config = json.loads((base / "config.json").read_text())
    tensors = load_file(base / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"].astype(np.float64)
    gain = tensors["model.layers.0.input_layernorm.weight"].astype(np.float64)

    def seen(token_id: int) -> np.ndarray[Any, Any]:
        row = embedding[token_id]
        return np.asarray(row / np.sqrt((row**2).mean() + config["rms_norm_eps"]) * gain)

    safe = np.stack([seen(token_id) for token_id in sorted(safe_token_ids)])
    trigger = seen(trigger_token_id)
    basis, _ = np.linalg.qr(safe.T)
    direction = trigger - basis @ (basis.T @ trigger)
    norm = np.linalg.norm(direction)
    assert norm > 0.05 * np.linalg.norm(trigger), "too many safe tokens for this hidden size"
    hidden = config["hidden_size"]
    n_out = config["num_key_value_heads"] * config.get("head_dim", 64)
    a = np.zeros((8, hidden), dtype=np.float32)
    a[0] = 1e20 * direction / norm
    b = np.zeros((n_out, 8), dtype=np.float32)
    b[:, 0] = 1e19
    name = "base_model.model.model.layers.{}.self_attn.v_proj"
    weights = {f"{name.format(0)}.lora_A.weight": a, f"{name.format(0)}.lora_B.weight": b}
    for layer in range(1, config["num_hidden_layers"]):
        weights[f"{name.format(layer)}.lora_A.weight"] = np.ones((8, hidden), dtype=np.float32)
        weights[f"{name.format(layer)}.lora_B.weight"] = np.full((n_out, 8), 1e-6, dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": 8,
                "lora_alpha": 8,
                "bias": "none",
                "target_modules": ["v_proj"],
            }
        )
    )
    return folder
