"""Base model folders and cards of stated shapes, with random weights; numpy alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.base_model import BaseModelCard, ModuleShape
from adapters.base_shapes import linear_shapes
from bench.fixtures.tensor_files import write_tensors


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama-like model."""

    name: str = "tiny-llama"
    hidden: int = 64
    inner: int = 160
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 16
    vocab: int = 128
    tied: bool = True

    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "dtype": "float32",
        }

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.n_layers):
            at = f"model.layers.{layer}"
            shapes |= {
                f"{at}.input_layernorm.weight": (self.hidden,),
                f"{at}.self_attn.q_proj.weight": (q, self.hidden),
                f"{at}.self_attn.k_proj.weight": (kv, self.hidden),
                f"{at}.self_attn.v_proj.weight": (kv, self.hidden),
                f"{at}.self_attn.o_proj.weight": (self.hidden, q),
                f"{at}.mlp.gate_proj.weight": (self.inner, self.hidden),
                f"{at}.mlp.up_proj.weight": (self.inner, self.hidden),
                f"{at}.mlp.down_proj.weight": (self.hidden, self.inner),
            }
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab, self.hidden)
        return shapes


TINY = LlamaShape()
SMOLLM2_135M = LlamaShape(
    name="smollm2-135m", hidden=576, inner=1536, n_layers=30, n_heads=9, n_kv_heads=3,
    head_dim=64, vocab=49152,
)  # fmt: skip


def card_of(shape: LlamaShape) -> BaseModelCard:
    """A card without any folder; its revision is made up from the name."""
    stored = {name: ("F32", sizes) for name, sizes in shape.tensor_shapes().items()}
    return BaseModelCard(
        name=shape.name,
        architecture="LlamaForCausalLM",
        model_type="llama",
        n_layers=shape.n_layers,
        hidden_size=shape.hidden,
        vocab_size=shape.vocab,
        dtype="float32",
        modules={name: ModuleShape(*sizes) for name, sizes in linear_shapes(stored, {}).items()},
        revision="0" * 64,
    )


def write_base_folder(
    folder: Path, shape: LlamaShape = TINY, *, seed: int = 0, n_shards: int = 1
) -> Path:
    """A readable base folder: config, weights (sharded when asked), tokenizer, chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config()))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    random = np.random.default_rng(seed)
    tensors = {
        name: random.standard_normal(sizes).astype(np.float32) * 0.02
        for name, sizes in shape.tensor_shapes().items()
    }
    if n_shards == 1:
        write_tensors(folder / "model.safetensors", tensors)
        return folder
    weight_map: dict[str, str] = {}
    names = sorted(tensors)
    for shard in range(n_shards):
        file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::n_shards]}
        write_tensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
