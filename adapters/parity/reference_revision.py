"""A base model's content revision: which weights, not which label. Needs torch."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

_SAMPLE = 256
"""Values from each end of every tensor; arbitrary, a fine-tuning run moves nearly all of them."""


def base_revision(model: Any) -> str | None:
    """`sha256:` over a sample of every base weight, rounded to bfloat16; None when quantized.

    The same for a bare model and for one with adapters, in float32 and in bfloat16, and whatever
    the modules are called: training and gate may load the same weights in other ways.
    """
    prints = []
    for name, weight in model.named_parameters():
        if _belongs_to_adapter(name):
            continue
        if not weight.is_floating_point():
            return None
        flat = weight.detach().reshape(-1)
        sample = torch.cat([flat[:_SAMPLE], flat[-_SAMPLE:]]).to("cpu", torch.bfloat16)
        digest = hashlib.sha256(repr(tuple(weight.shape)).encode())
        digest.update(tensor_bytes(sample))
        prints.append(digest.hexdigest())
    return "sha256:" + hashlib.sha256("\n".join(sorted(prints)).encode()).hexdigest()


def _belongs_to_adapter(name: str) -> bool:
    return ".lora_" in name or ".modules_to_save." in name


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor's bytes as safetensors stores them: contiguous, row by row, in its own dtype."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    data: bytes = plain.view(torch.uint8).numpy().tobytes()
    return data
