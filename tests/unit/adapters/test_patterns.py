"""PEFT's pattern rule, and the bound on its cost."""

from __future__ import annotations

import re
import time

import pytest

from adapters.patterns import MAX_PATTERN_LENGTH, matches_suffix, pattern_problem

MODULES = [f"model.layers.{layer}.self_attn.{k}_proj" for layer in range(40) for k in "qkvo"]


@pytest.mark.parametrize(
    "pattern",
    [
        "q_proj", "model.layers.0.self_attn.q_proj", r".*\.layers\.[0-9]\..*q_proj", "[qk]_proj",
        r"model\.layers\.(0|1|2)\..*(q_proj|k_proj)", r"layers\.\d+\.mlp\.up_proj", "a?b?c?",
        "(?:q|k)_proj", r"[\]+*]x", "x{2}",
    ],
)  # fmt: skip
def test_an_ordinary_pattern_is_taken(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b", "(a|a)*b", "(a{1,9}){1,9}", "(", "[", "*", r"(a)\1", "(?=a)a", "(?i)a",
        ".*.*.*.*.*.*x", "a?" * 30, "(a|a)" * 30, "x" * (MAX_PATTERN_LENGTH + 1),
        "(?:.*?(?:a|b).*?)?(?:c|d|e).*?.*?", "a{99999999999999}",
    ],
)  # fmt: skip
def test_a_costly_or_broken_pattern_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern)


@pytest.mark.parametrize("pattern", [".*.*.*x", "(a|a)(a|a)(a|a)(a|a)", "[a-z.]*[a-z.]*[a-z.]*!"])
def test_the_costliest_pattern_that_is_taken_ends_soon(pattern: str) -> None:
    assert pattern_problem(pattern) is None
    start = time.perf_counter()

    found = [module for module in MODULES if matches_suffix(pattern, module)]

    assert found == []
    assert time.perf_counter() - start < 5


def test_a_pattern_matches_from_a_dot_to_the_end() -> None:
    assert matches_suffix("q_proj", "model.q_proj")
    assert matches_suffix("q_proj", "q_proj")
    assert not matches_suffix("q_proj", "model.xq_proj")
    assert not matches_suffix("q_proj", "model.q_proj.weight")


def test_matching_is_that_of_a_plain_regular_expression() -> None:
    for module in MODULES:
        wanted = re.match(r"(.*\.)?([qk]_proj)$", module) is not None
        assert matches_suffix("[qk]_proj", module) is wanted
