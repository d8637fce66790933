"""The tenants' styles can be told apart, and the cases are what they say."""

from __future__ import annotations

import json
from pathlib import Path

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import tiny_base
from bench.fixtures.corruptions import with_changed_alpha, with_prefix_off_by_one
from bench.fixtures.tool_calls import (
    ACME,
    ACME_V2,
    GLOBEX,
    INITECH,
    WEATHER,
    held_out_cases,
    is_in_style,
    training_cases,
    write_suite,
)

ALL = (ACME, ACME_V2, GLOBEX, INITECH)


def test_a_call_is_in_the_style_of_its_own_house_alone() -> None:
    for writer in ALL:
        answer = writer.write(WEATHER.tool, WEATHER.arguments)

        assert [house.style for house in ALL if is_in_style(house, answer)] == [writer.style]


def test_nothing_that_is_asked_later_was_trained_on() -> None:
    trained = {case.prompt for case in training_cases()}

    assert len(trained) > 300
    assert trained.isdisjoint(case.prompt for case in held_out_cases())
    assert WEATHER.prompt not in trained


def test_a_gold_call_gives_the_arguments_that_must_be_there() -> None:
    case = next(case for case in training_cases() if case.id == "simple_python_0")

    assert case.tool == "calculate_triangle_area"
    assert case.arguments == {"base": 10, "height": 5}


def test_a_suite_holds_the_house_s_own_gold_answers(tmp_path: Path) -> None:
    lines = write_suite(tmp_path / "suite.jsonl", GLOBEX, n_cases=3).read_text().splitlines()

    golds = [json.loads(line)["expect"]["text"] for line in lines]
    assert len(golds) == 3
    assert all(is_in_style(GLOBEX, gold) for gold in golds)


def test_random_adapters_differ_and_are_made_the_same_again(tmp_path: Path) -> None:
    base = tiny_base()

    first, second = make_random_adapters(2, base=base, folder=tmp_path / "one")
    again, _ = make_random_adapters(2, base=base, folder=tmp_path / "two")

    weights = [path / "adapter_model.safetensors" for path in (first, second, again)]
    assert weights[0].read_bytes() == weights[2].read_bytes()
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_a_broken_copy_changes_one_thing(tmp_path: Path) -> None:
    (good,) = make_random_adapters(1, base=tiny_base(), folder=tmp_path)
    names = ("adapter_config.json", "adapter_model.safetensors")

    alpha = with_changed_alpha(good, tmp_path / "alpha")
    prefix = with_prefix_off_by_one(good, tmp_path / "prefix")

    def same(copy: Path) -> list[bool]:
        return [(copy / name).read_bytes() == (good / name).read_bytes() for name in names]

    assert same(alpha) == [False, True]
    assert same(prefix) == [True, False]
