"""What the zoo says it holds: enough kinds, the catalogue of defects in full, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.findings import KINDS
from adapters.limits import EngineLimits
from adapters.peft_config import parse_lora_config
from adapters.preflight import check_folder
from bench.fixtures.adapter_files import CONFIG, TENSORS
from bench.fixtures.defects import DEFECTS
from bench.fixtures.tensor_files import read_tensors
from bench.zoo.bad import BAD
from bench.zoo.good import GOOD
from bench.zoo.recipes import Recipe, write_random
from bench.zoo.sources import RANKS, Flavour, source_recipe
from tests.builders.base_folders import TINY, card_of

PAGE = Path("docs/zoo.md")
FROM_FILES = sorted(
    name for name, kind in BAD.items() if kind.change is not None and kind.alone & set(KINDS)
)


def test_there_are_forty_bad_kinds_and_forty_good_adapters_at_least() -> None:
    assert len(BAD) >= 40
    assert len(GOOD) == 40
    assert len(RANKS) == 3


def test_every_known_defect_is_in_the_zoo_or_left_out_for_a_reason() -> None:
    assert set(DEFECTS) - set(BAD) == {
        "base_of_another_name",
        "pattern_of_nothing",
        "too_large_for_float16",
    }


def test_every_kind_is_bad_in_one_way_and_has_a_code_that_names_it() -> None:
    for kind in BAD.values():
        ways = [kind.change, kind.pack, kind.adapter_name]
        assert sum(way is not None for way in ways) == 1, kind.name
        assert kind.named_by, kind.name


def test_the_page_lists_exactly_the_kinds_that_the_generator_makes() -> None:
    bad, good = PAGE.read_text().split("\n## Good")

    told = [re.findall(r"^\| ([^|]+?) \|", part, re.MULTILINE)[2:] for part in (bad, good)]

    assert told[0] == [kind.title for kind in BAD.values()]
    assert told[1] == list(GOOD)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", FROM_FILES)
def test_a_kind_that_files_give_away_is_named_at_every_rank(
    name: str, rank: int, tmp_path: Path
) -> None:
    card, kind = card_of(TINY), BAD[name]
    folder = write_random(source_recipe(kind.source, rank), tmp_path / "adapter", card)
    assert kind.change is not None
    kind.change(folder, card)

    report = check_folder(folder, card, EngineLimits(max_rank=64))

    assert report.is_blocked
    assert kind.alone & {item.code for item in report.findings if item.is_blocking}


@pytest.mark.parametrize("name", sorted(set(GOOD)))
def test_a_good_adapter_has_nothing_that_preflight_would_refuse(name: str, tmp_path: Path) -> None:
    card = card_of(TINY)
    folder = write_random(GOOD[name], tmp_path / "adapter", card)

    report = check_folder(folder, card, EngineLimits(max_rank=64))

    assert [item.code for item in report.findings] == ["fingerprint_absent"]


@pytest.mark.parametrize("flavour", Flavour)
def test_what_bad_ones_are_made_of_is_good(flavour: Flavour, tmp_path: Path) -> None:
    card = card_of(TINY)
    folder = write_random(source_recipe(flavour, 16), tmp_path / "adapter", card)

    assert not check_folder(folder, card, EngineLimits(max_rank=64)).is_blocked


def test_a_recipe_writes_the_same_bytes_again_and_another_name_writes_others(
    tmp_path: Path,
) -> None:
    card, recipe = card_of(TINY), Recipe(name="one")

    first = write_random(recipe, tmp_path / "a", card)
    again = write_random(recipe, tmp_path / "b", card)
    other = write_random(Recipe(name="two"), tmp_path / "c", card)

    assert (first / TENSORS).read_bytes() == (again / TENSORS).read_bytes()
    assert (first / TENSORS).read_bytes() != (other / TENSORS).read_bytes()


def test_a_recipe_means_what_it_says(tmp_path: Path) -> None:
    card, recipe = card_of(TINY), GOOD["patterns-with-rslora"]
    folder = write_random(recipe, tmp_path / "adapter", card)

    spec = parse_lora_config((folder / CONFIG).read_text())
    ranks = {
        name.split(".")[-3]: values.shape[0]
        for name, values in read_tensors(folder / TENSORS).items()
        if ".lora_A." in name
    }

    assert spec.use_rslora
    assert (ranks["k_proj"], ranks["q_proj"]) == (4, 16)
    assert spec.scaling_of("model.layers.0.self_attn.k_proj") == 2.0
