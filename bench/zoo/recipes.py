"""What one generated adapter is: its config, and random weights of exactly that config.

Numpy alone. A recipe is JSON-able, so it is its own cache key, and the same recipe writes the same
bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base_model import DEFAULT_TARGET_MODULES, BaseModelCard
from adapters.peft_config import LoraSpec, parse_lora_config, targets
from bench.fixtures.adapter_files import CONFIG, TENSORS, peft_config, tensor_name
from bench.fixtures.tensor_files import Array, to_bfloat16, write_tensors

_CASTS: dict[str, Callable[[Array], Array]] = {
    "float32": lambda values: values,
    "float16": lambda values: values.astype(np.float16),
    "bfloat16": to_bfloat16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One adapter. `layers` names a part of the base, so that a recipe fits any number of them."""

    name: str
    rank: int = 8
    alpha: float | None = None
    """None: twice the rank."""
    use_rslora: bool = False
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    targets: tuple[str, ...] | str = DEFAULT_TARGET_MODULES
    excluded: tuple[str, ...] = ()
    layers: str = "all"
    """all, first, lower or upper (half)."""
    layers_pattern: str | None = None
    dtype: str = "float32"
    strength: float = 0.3
    """About the size of a module's contribution relative to a unit-variance output."""
    style: str | None = None
    """Really trained, to write in the style of this house (`bench.fixtures.tool_calls`)."""

    def to_json(self) -> dict[str, Any]:
        """For cache keys and results."""
        return asdict(self)

    def config(self, card: BaseModelCard) -> dict[str, Any]:
        """What adapter_config.json says, for this base."""
        return peft_config(
            rank=self.rank,
            alpha=2 * self.rank if self.alpha is None else self.alpha,
            targets=self.targets,
            base=card.name,
            use_rslora=self.use_rslora,
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            exclude_modules=list(self.excluded) or None,
            layers_to_transform=_layers(self.layers, card.n_layers),
            layers_pattern=self.layers_pattern,
        )


def _layers(part: str, n: int) -> list[int] | None:
    half = (n + 1) // 2
    parts = {"all": None, "first": [0], "lower": [*range(half)], "upper": [*range(n - half, n)]}
    return parts[part]


def write_random(recipe: Recipe, folder: Path, card: BaseModelCard) -> Path:
    """Write the recipe's config and random tensors of every module that the config selects."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(recipe.config(card), indent=2)
    (folder / CONFIG).write_text(text)
    tensors = _random_tensors(recipe, parse_lora_config(text), card)
    cast = _CASTS[recipe.dtype]
    write_tensors(folder / TENSORS, {name: cast(values) for name, values in tensors.items()})
    return folder


def _random_tensors(recipe: Recipe, spec: LoraSpec, card: BaseModelCard) -> dict[str, Array]:
    random = np.random.default_rng(zlib.crc32(recipe.name.encode()))
    tensors: dict[str, Array] = {}
    for module, shape in card.modules.items():
        if not targets(spec, module):
            continue
        rank = spec.rank_of(module)
        size = recipe.strength / (spec.scaling_of(module) * np.sqrt(rank))
        a = random.standard_normal((rank, shape.in_features)) / np.sqrt(shape.in_features)
        b = random.standard_normal((shape.out_features, rank)) * size
        tensors[tensor_name(module, "A")] = a.astype(np.float32)
        tensors[tensor_name(module, "B")] = b.astype(np.float32)
    return tensors
