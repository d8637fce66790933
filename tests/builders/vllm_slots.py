"""What vLLM allocates for LoRA slots, and the shapes that the same base has for Hugging Face.

A program of its own, `python -m tests.builders.vllm_slots`, because vLLM keeps state per process.
Weights are on the meta device, so bases of real size cost nothing. Prints a JSON list of rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)
from vllm.config import set_current_vllm_config
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SOME = ["q_proj", "v_proj", "down_proj"]
N_SLOTS = 3
BASES: dict[str, PretrainedConfig] = {
    # Llama 3.1 8B: grouped queries.
    "llama": LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    ),
    # Qwen 2.5 0.5B: biases, two key heads, tied embeddings.
    "qwen2": Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    ),
    # Gemma 2 9B: heads of 256, which together are wider than the hidden size.
    "gemma2": Gemma2Config(
        architectures=["Gemma2ForCausalLM"],
        vocab_size=256_000,
        hidden_size=3584,
        intermediate_size=14_336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        max_position_embeddings=8192,
    ),
}
CASES = [(name, rank, ALL) for name in BASES for rank in (8, 16, 64)] + [("llama", 16, SOME)]


def stored_tensors(config: PretrainedConfig) -> dict[str, list[int]]:
    """Names and shapes of the tensors in this base's folder."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def allocated(folder: str, rank: int, target_modules: list[str]) -> dict[str, Any]:
    """Bytes of all the slots that vLLM makes for a base, and of its KV cache for one token."""
    config = EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        enable_lora=True,
        max_loras=N_SLOTS,
        max_cpu_loras=2 * N_SLOTS,
        max_lora_rank=rank,
        lora_target_modules=target_modules,
        enforce_eager=True,
        max_model_len=128,
    ).create_engine_config()
    with set_current_vllm_config(config):
        _join_a_group_of_one(Path(folder))
        with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
            model = initialize_model(vllm_config=config)
        manager = LRUCacheLoRAModelManager(
            model, 4, 64, config.model_config.get_vocab_size(), config.lora_config,
            torch.device("cpu"), config,
        )  # fmt: skip
        stacks = [
            tensor
            for module in manager.modules.values()
            for tensor in (*module.lora_a_stacked, *module.lora_b_stacked)
        ]
        kv = sum(
            layer.get_kv_cache_spec(config).page_size_bytes
            // layer.get_kv_cache_spec(config).block_size
            for layer in config.compilation_config.static_forward_context.values()
        )
    return {
        "bytes": sum(stack.nbytes for stack in stacks),
        "dtype_bytes": stacks[0].element_size(),
        "n_slots": stacks[0].shape[0],
        "kv_bytes_per_token": kv,
    }


def _join_a_group_of_one(folder: Path) -> None:
    if not torch.distributed.is_initialized():
        init_distributed_environment(1, 0, f"file://{folder / 'rendezvous'}", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)


def main() -> None:
    """All cases as one line of JSON, behind whatever vLLM prints."""
    rows = []
    tensors = {name: stored_tensors(config) for name, config in BASES.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, config in BASES.items():
            config.save_pretrained(Path(folder) / name)
        for name, rank, target_modules in CASES:
            row = {"base": name, "rank": rank, "target_modules": target_modules}
            rows.append({**row, **allocated(str(Path(folder) / name), rank, target_modules)})
    configs = {name: config.to_dict() for name, config in BASES.items()}
    document = {"rows": rows, "tensors": tensors, "configs": configs}
    sys.stdout.write(json.dumps(document, default=str) + "\n")


if __name__ == "__main__":
    main()
