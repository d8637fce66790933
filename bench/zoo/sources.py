"""The good adapters that bad ones are made of: three ranks, in some flavours."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from bench.zoo.recipes import Recipe

RANKS = (4, 16, 64)
"""Every kind is made from good adapters of these ranks."""


class Flavour(StrEnum):
    """The good adapter that a bad one is made of."""

    PLAIN = "plain"
    RSLORA = "rslora"
    PATTERNED = "patterned"
    PARTIAL = "partial"
    FOREIGN_BASE = "foreign-base"
    """Its fingerprint was recorded on a base of the same shapes with other weights."""
    FOREIGN_RUN = "foreign-run"
    """Its fingerprint is another run's."""


_SOURCE_DTYPES = {4: "float32", 16: "float32", 64: "float16"}
"""Sixteen bits at rank 64: half of the bytes to send, and another number type."""


def source_recipe(flavour: Flavour, rank: int) -> Recipe:
    """The good adapter of a flavour, at one of `RANKS`."""
    plain = Recipe(name=f"source-{flavour}-{rank}", rank=rank, dtype=_SOURCE_DTYPES[rank])
    if flavour is Flavour.RSLORA:
        return replace(plain, use_rslora=True, alpha=16)
    if flavour is Flavour.PATTERNED:
        return replace(
            plain,
            rank_pattern=(("down_proj", rank // 2),),
            alpha_pattern=(("q_proj", 4 * rank),),
        )
    if flavour is Flavour.PARTIAL:
        return replace(plain, layers="lower")
    return plain
