"""BaseModelCard from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.base_model import ModuleShape, read_base_model
from adapters.base_shapes import linear_shapes
from adapters.errors import BaseModelError
from bench.fixtures.tensor_files import read_tensors, write_tensors
from tests.builders.base_folders import TINY, LlamaShape, card_of, write_base_folder


def test_modules_and_sizes_come_from_the_weights(tmp_path: Path) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base"), name="tiny-llama")

    assert card.modules == card_of(TINY).modules
    assert card.modules["model.layers.1.mlp.down_proj"] == ModuleShape(160, 64)
    assert (card.n_layers, card.hidden_size, card.vocab_size) == (2, 64, 128)
    assert (card.architecture, card.model_type, card.dtype) == (
        "LlamaForCausalLM", "llama", "float32",
    )  # fmt: skip


def test_an_untied_output_head_is_a_module_and_embeddings_are_not(tmp_path: Path) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base", LlamaShape(tied=False)))

    assert card.modules["lm_head"] == ModuleShape(64, 128)
    assert not any("embed" in name or "norm" in name for name in card.modules)


def test_the_revision_does_not_depend_on_how_the_weights_are_sharded(tmp_path: Path) -> None:
    whole = read_base_model(write_base_folder(tmp_path / "whole"))
    shards = read_base_model(write_base_folder(tmp_path / "shards", n_shards=3))

    assert shards.revision == whole.revision
    assert shards.modules == whole.modules


def test_another_fine_tune_of_the_same_shape_is_another_revision(tmp_path: Path) -> None:
    one = read_base_model(write_base_folder(tmp_path / "one", seed=1))
    two = read_base_model(write_base_folder(tmp_path / "two", seed=2))

    assert one.modules == two.modules
    assert one.revision != two.revision


def test_who_wrote_the_config_is_no_part_of_the_revision(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    before = read_base_model(folder).revision
    config = json.loads((folder / "config.json").read_text())

    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "99"}))
    assert read_base_model(folder).revision == before

    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 5}))
    assert read_base_model(folder).revision != before


def test_the_tokenizer_hash_is_of_the_vocabulary_and_not_of_padding(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    before = read_base_model(folder).tokenizer_hash
    raw = json.loads((folder / "tokenizer.json").read_text())

    (folder / "tokenizer.json").write_text(json.dumps(raw | {"padding": {"pad_id": 3}}))
    assert read_base_model(folder).tokenizer_hash == before

    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"b": 0}}}))
    assert read_base_model(folder).tokenizer_hash != before


def test_the_chat_template_is_found_in_either_place(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    before = read_base_model(folder).chat_template_hash
    (folder / "chat_template.jinja").unlink()
    assert read_base_model(folder).chat_template_hash is None

    template = json.dumps({"chat_template": "{{ messages }}"})
    (folder / "tokenizer_config.json").write_text(template)

    assert read_base_model(folder).chat_template_hash == before


def test_a_base_without_tokenizer_says_so(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    assert read_base_model(folder).tokenizer_hash is None

    (folder / "tokenizer.model").write_bytes(b"sentencepiece")
    assert read_base_model(folder).tokenizer_hash

    (folder / "tokenizer.json").write_text("[]")
    assert read_base_model(folder).tokenizer_hash is None


def test_a_folder_of_the_hub_cache_has_the_hubs_name(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "models--org--Tiny-1B" / "snapshots" / "abc123")

    assert read_base_model(folder).name == "org/Tiny-1B"


def test_the_stated_number_type_may_be_absent(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    del config["dtype"]
    (folder / "config.json").write_text(json.dumps(config))

    assert read_base_model(folder).dtype == "float32"


def test_the_card_is_told_as_json_without_its_modules(tmp_path: Path) -> None:
    told = read_base_model(write_base_folder(tmp_path / "base")).to_json()

    assert json.loads(json.dumps(told))["n_modules"] == 14


def _drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [
        _drop("config.json"),
        _drop("model.safetensors"),
        _write("config.json", "[]"),
        _write("config.json", '{"num_hidden_layers": "two"}'),
        _write("model.safetensors", "no weights"),
        _write("model.safetensors.index.json", "{}"),
        _write("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}'),
        _write("model.safetensors.index.json", '{"weight_map": {"a": "model.safetensors"}}'),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(
    spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = write_base_folder(tmp_path / "base")
    spoil(folder)

    with pytest.raises(BaseModelError):
        read_base_model(folder)


def test_a_packed_quantised_base_has_the_shapes_of_its_config() -> None:
    stored = {
        f"model.layers.0.{module}.qweight": ("I32", (8, 8))
        for module in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj", "mlp.router")
    }

    shapes = linear_shapes(stored, TINY.config())

    assert shapes == {
        "model.layers.0.mlp.down_proj": (160, 64),
        "model.layers.0.self_attn.k_proj": (64, 32),
        "model.layers.0.self_attn.q_proj": (64, 64),
    }
    assert linear_shapes(stored, {}) == {}


def test_weights_may_be_saved_in_any_order(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base")
    before = read_base_model(folder)

    tensors = read_tensors(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", dict(reversed(tensors.items())))

    assert read_base_model(folder) == before
