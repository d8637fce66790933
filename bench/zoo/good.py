"""Forty good adapters: everything that a correct export may look like. All of them have to PASS."""

from __future__ import annotations

from bench.fixtures.tool_calls import ACME, ACME_V2, GLOBEX, INITECH
from bench.zoo.recipes import Recipe

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")

_RANKS = (
    Recipe(name="rank-4", rank=4),
    Recipe(name="rank-5", rank=5, dtype="bfloat16"),
    Recipe(name="rank-8", rank=8, dtype="float16"),
    Recipe(name="rank-12", rank=12),
    Recipe(name="rank-16", rank=16, dtype="bfloat16"),
    Recipe(name="rank-24", rank=24),
    Recipe(name="rank-32", rank=32, dtype="float16"),
    Recipe(name="rank-48", rank=48, dtype="bfloat16"),
    Recipe(name="rank-64", rank=64, dtype="bfloat16"),
)
_RSLORA = (
    Recipe(name="rslora-4", rank=4, alpha=8, use_rslora=True),
    Recipe(name="rslora-8", rank=8, alpha=8, use_rslora=True, dtype="bfloat16"),
    Recipe(name="rslora-16", rank=16, alpha=16, use_rslora=True, dtype="float16"),
    Recipe(name="rslora-33", rank=33, alpha=11, use_rslora=True),
    Recipe(name="rslora-64", rank=64, alpha=16, use_rslora=True, dtype="float16"),
)
_ALPHAS = (
    Recipe(name="alpha-1", rank=4, alpha=1),
    Recipe(name="alpha-as-rank", rank=16, alpha=16),
    Recipe(name="alpha-four-times", rank=8, alpha=32, dtype="float16"),
    Recipe(name="alpha-no-power-of-two", rank=7, alpha=13, dtype="bfloat16"),
    Recipe(name="alpha-fraction", rank=6, alpha=2.5),
)
_PATTERNS = (
    Recipe(name="rank-pattern-small", rank=16, rank_pattern=(("q_proj", 4),)),
    Recipe(
        name="rank-pattern-large",
        rank=8,
        rank_pattern=(("down_proj", 32), ("up_proj", 64)),
        dtype="bfloat16",
    ),
    Recipe(name="rank-pattern-of-a-layer", rank=8, rank_pattern=((r"layers\.0\..*_proj", 24),)),
    Recipe(name="alpha-pattern", rank=8, alpha_pattern=(("v_proj", 4),), dtype="float16"),
    Recipe(name="alpha-pattern-of-a-layer", rank=8, alpha_pattern=((r"layers\.1\..*_proj", 40),)),
    Recipe(
        name="both-patterns",
        rank=12,
        rank_pattern=(("o_proj", 3),),
        alpha_pattern=(("o_proj", 9), ("gate_proj", 30)),
    ),
    Recipe(
        name="patterns-with-rslora",
        rank=16,
        alpha=8,
        use_rslora=True,
        rank_pattern=(("k_proj", 4),),
        alpha_pattern=(("k_proj", 4),),
        dtype="bfloat16",
    ),
)
_TARGETS = (
    Recipe(name="attention-only", rank=16, targets=_ATTENTION),
    Recipe(name="queries-and-values", rank=8, targets=("q_proj", "v_proj"), dtype="float16"),
    Recipe(name="mlp-only", rank=16, targets=_MLP, dtype="bfloat16"),
    Recipe(name="down-only", rank=32, targets=("down_proj",)),
    Recipe(name="all-linear", rank=8, targets="all-linear", dtype="bfloat16"),
    Recipe(name="targets-as-a-pattern", rank=8, targets=r".*\.(q|k|v|o)_proj"),
    Recipe(name="excluded-modules", rank=8, excluded=("k_proj", "up_proj")),
)
_LAYERS = (
    Recipe(name="lower-layers", rank=16, layers="lower"),
    Recipe(name="upper-layers", rank=16, layers="upper", layers_pattern="layers"),
    Recipe(name="first-layer", rank=64, layers="first", dtype="float16"),
)
_TRAINED = tuple(
    Recipe(name=f"trained-{house.tenant}-{number}", rank=16, alpha=32, style=house.style)
    for number, house in enumerate((ACME, GLOBEX, INITECH, ACME_V2))
)

GOOD: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (*_RANKS, *_RSLORA, *_ALPHAS, *_PATTERNS, *_TARGETS, *_LAYERS, *_TRAINED)
}
"""Every good adapter by name."""
