"""Exports that went wrong and still look like an adapter: only training evidence can name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base_model import BaseModelCard
from adapters.manifest import FINGERPRINT_FILE
from bench.fixtures.adapter_files import CONFIG, edit_config, edit_tensors
from bench.fixtures.tensor_files import Array

Change = Callable[[Path, BaseModelCard], None]
Tensors = dict[str, Array]


def config_of(folder: Path) -> dict[str, Any]:
    """adapter_config.json as it is."""
    return dict(json.loads((folder / CONFIG).read_text()))


def lose_the_rslora_flag(folder: Path, card: BaseModelCard) -> None:
    """The scaling falls by the root of the rank."""
    edit_config(folder, use_rslora=False)


def lose_the_alpha_pattern(folder: Path, card: BaseModelCard) -> None:
    """Some modules are scaled by the general alpha."""
    edit_config(folder, alpha_pattern={})


def lose_a_module_kind(folder: Path, card: BaseModelCard) -> None:
    """Config and weights agree that down_proj was never trained."""
    kept = [name for name in config_of(folder)["target_modules"] if name != "down_proj"]
    edit_config(folder, target_modules=kept)
    edit_tensors(folder, lambda old: {k: v for k, v in old.items() if ".down_proj." not in k})


def lose_the_upper_layers(folder: Path, card: BaseModelCard) -> None:
    """Config and weights agree that only the lower half was trained."""
    kept = [*range(card.n_layers // 2)]
    edit_config(folder, layers_to_transform=kept)
    edit_tensors(folder, lambda old: {k: v for k, v in old.items() if layer_of(k) in kept})


def shift_layers_inside(folder: Path, card: BaseModelCard) -> None:
    """A part of the layers moves up by one, and the config says so too."""
    layers = [layer + 1 for layer in config_of(folder)["layers_to_transform"]]
    edit_config(folder, layers_to_transform=layers)

    def rename(key: str) -> str:
        layer = layer_of(key)
        return key.replace(f".layers.{layer}.", f".layers.{layer + 1}.", 1)

    edit_tensors(folder, lambda old: {rename(key): values for key, values in old.items()})


def layer_of(key: str) -> int:
    """Layer number in a tensor's name."""
    return int(key.partition(".layers.")[2].partition(".")[0])


def cut_the_rank(folder: Path, card: BaseModelCard) -> None:
    """Half of the rank is thrown away, in config and weights, at the same scaling."""
    config = config_of(folder)
    half = config["r"] // 2
    edit_config(folder, r=half, lora_alpha=config["lora_alpha"] / 2)
    edit_tensors(
        folder,
        lambda old: {k: v[:half] if ".lora_A." in k else v[:, :half] for k, v in old.items()},
    )


def take_an_earlier_checkpoint(folder: Path, card: BaseModelCard) -> None:
    """All values are a little smaller, as some steps before."""
    edit_tensors(folder, lambda old: {k: (v * 0.9).astype(v.dtype) for k, v in old.items()})


def mix_checkpoints(folder: Path, card: BaseModelCard) -> None:
    """One layer comes from an earlier checkpoint."""
    edit_tensors(
        folder,
        lambda old: {
            k: (v * 0.9).astype(v.dtype) if layer_of(k) == 0 else v for k, v in old.items()
        },
    )


def flip_one_bit(folder: Path, card: BaseModelCard) -> None:
    """The lowest bit of one byte, somewhere in the middle."""

    def flip(old: Tensors) -> Tensors:
        key = sorted(old)[len(old) // 2]
        old[key].reshape(-1).view(np.uint8)[old[key].nbytes // 2] ^= 1
        return old

    edit_tensors(folder, flip)


def empty_one_module(folder: Path, card: BaseModelCard) -> None:
    """One module's B is zero: it does nothing any more."""

    def empty(old: Tensors) -> Tensors:
        key = next(key for key in sorted(old) if ".lora_B." in key)
        return old | {key: np.zeros_like(old[key])}

    edit_tensors(folder, empty)


def fade(folder: Path, card: BaseModelCard) -> None:
    """B is so small that no answer changes."""
    edit_tensors(
        folder,
        lambda old: {
            k: v.astype(np.float32) * np.float32(1e-7) if ".lora_B." in k else v
            for k, v in old.items()
        },
    )


def add_a_layer(folder: Path, card: BaseModelCard) -> None:
    """A layer more than the base has, as from a deeper base of the same width."""

    def add(old: Tensors) -> Tensors:
        new = f".layers.{card.n_layers}."
        extra = {k.replace(".layers.0.", new): v for k, v in old.items() if layer_of(k) == 0}
        return old | extra

    edit_tensors(folder, add)


def cut_off_the_fingerprint(folder: Path, card: BaseModelCard) -> None:
    """The training fingerprint itself is damaged."""
    path = folder / FINGERPRINT_FILE
    if path.exists():
        path.write_bytes(path.read_bytes()[:-200])
