"""Linear modules of a base model, from the names and shapes of its stored tensors.

A packed quantised checkpoint (GPTQ, AWQ, 4-bit) does not store true shapes; there, those of the
usual seven projections follow from the config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EMBEDDINGS = ("embed_tokens", "wte", "wpe", "embed_in", "embed_positions")
_TRUE_SHAPE_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_PACKED_ENDINGS = (".qweight", ".weight_packed", ".weight")

StoredTensors = Mapping[str, tuple[str, tuple[int, ...]]]


def linear_shapes(tensors: StoredTensors, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(in, out) features by module name, embeddings left out. `tensors`: name -> (dtype, shape)."""
    derived = _projection_shapes(config)
    shapes = {}
    for name, (dtype, shape) in tensors.items():
        ending = next((end for end in _PACKED_ENDINGS if name.endswith(end)), None)
        if ending is None:
            continue
        module = name.removesuffix(ending)
        kind = module.rpartition(".")[2]
        if ending == ".weight" and dtype in _TRUE_SHAPE_DTYPES:
            if len(shape) == 2 and kind not in _EMBEDDINGS:
                shapes[module] = (shape[1], shape[0])
        elif kind in derived:
            shapes[module] = derived[kind]
    return dict(sorted(shapes.items()))


def _projection_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(in, out) of the seven projections of a Llama-like model; empty for another's config."""
    numbers = [
        config.get(key) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    ]
    if not all(type(number) is int and number > 0 for number in numbers):
        return {}
    hidden, inner, heads = (int(number) for number in numbers if number is not None)
    head_size = config.get("head_dim") or hidden // heads
    queries = heads * head_size
    keys = (config.get("num_key_value_heads") or heads) * head_size
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
