"""The zoo's adapters as folders: good ones by recipe, bad ones spoiled from good ones.

Good folders are made once and cached by content (`.fixtures`); bad ones are copies in a work
folder that the caller throws away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from adapters.base_model import BaseModelCard, read_base_model
from adapters.manifest import FINGERPRINT_FILE
from bench.fixtures.adapters import trained_adapter
from bench.fixtures.base_model import smol_base, smol_key, tiny_base, tiny_key
from bench.fixtures.cache import cache_key, cached
from bench.fixtures.tool_calls import (
    ACME,
    ACME_V2,
    GLOBEX,
    INITECH,
    held_out_cases,
    training_cases,
)
from bench.fixtures.training import Job, TrainingPlan, train_adapter
from bench.zoo.bad import BadKind
from bench.zoo.recipes import Recipe, write_random
from bench.zoo.sources import Flavour, source_recipe
from bench.zoo.vouch import Voucher

_HOUSES = {house.style: house for house in (ACME, GLOBEX, INITECH, ACME_V2)}
_STRENGTHS = {"tiny": 1.0, "smol": 0.2}
"""Where the search for a visible effect begins: thirty layers add up to more than two."""
_TINY_PLAN = TrainingPlan(steps=60, learning_rate=3e-3)


class Stock:
    """Every adapter of the zoo for one base (`tiny` or `smol`)."""

    def __init__(self, base: str) -> None:
        """Make the base's folder if need be.

        Raises:
            KeyError: there is no such base.
        """
        make, key = {"tiny": (tiny_base, tiny_key), "smol": (smol_base, smol_key)}[base]
        self.name, self.base = base, make()
        self.card: BaseModelCard = read_base_model(self.base)
        self._key = key()

    @cached_property
    def _voucher(self) -> Voucher:
        return Voucher(self.base)

    @cached_property
    def _foreign_voucher(self) -> Voucher:
        return Voucher(self.base, is_altered=True)

    def good(self, recipe: Recipe) -> Path:
        """Folder of a good adapter, with its fingerprint."""
        if recipe.style is not None:
            return self._trained(recipe)
        return self._cached(recipe, self._voucher_of(Flavour.PLAIN))

    def bad(self, kind: BadKind, rank: int, folder: Path) -> Path:
        """A bad adapter made from a good one of this rank, in a new `folder`."""
        shutil.copytree(self.source(kind.source, rank), folder)
        if kind.change is not None:
            kind.change(folder, self.card)
        return folder

    def source(self, flavour: Flavour, rank: int) -> Path:
        """The good adapter that a bad one is made of; only its fingerprint may be another's."""
        recipe = source_recipe(flavour, rank)
        if flavour is not Flavour.FOREIGN_RUN:
            return self._cached(recipe, self._voucher_of(flavour))
        other = self._cached(
            replace(recipe, name=f"{recipe.name}-other"), self._voucher_of(flavour)
        )

        def build(folder: Path) -> None:
            shutil.copytree(self.source(Flavour.PLAIN, rank), folder, dirs_exist_ok=True)
            shutil.copyfile(other / FINGERPRINT_FILE, folder / FINGERPRINT_FILE)

        return cached(self._cache_key(recipe), build)

    def _voucher_of(self, flavour: Flavour) -> Callable[[], Voucher]:
        is_foreign = flavour is Flavour.FOREIGN_BASE
        return lambda: self._foreign_voucher if is_foreign else self._voucher

    def _cached(self, recipe: Recipe, voucher: Callable[[], Voucher]) -> Path:
        def build(folder: Path) -> None:
            def write(strength: float) -> Path:
                return write_random(replace(recipe, strength=strength), folder, self.card)

            self._voucher.tune(write, recipe.strength * _STRENGTHS[self.name])
            voucher().vouch(folder)

        return cached(self._cache_key(recipe), build)

    def _cache_key(self, recipe: Recipe) -> str:
        content = {"base": self._key, "recipe": recipe.to_json(), "zoo": 1}
        return cache_key(f"zoo-{self.name}-{recipe.name}", content)

    def _trained(self, recipe: Recipe) -> Path:
        house = _HOUSES[str(recipe.style)]
        if self.name == "smol":
            return trained_adapter(house)

        def build(folder: Path) -> None:
            job = Job(
                base=self.base,
                house=house,
                cases=training_cases(),
                fingerprint_cases=held_out_cases()[:3],
                plan=_TINY_PLAN,
            )
            train_adapter(job, folder, on_step=lambda step, loss: None)

        content = {"base": self._key, "style": recipe.style, "plan": _TINY_PLAN.recipe()}
        return cached(cache_key(f"zoo-{self.name}-{recipe.name}", content), build)
