"""Samples of the worker's stacks are shares that add up."""

from __future__ import annotations

import pytest

from bench.worker_profile import REST, ProfilerMissing, part_of, shares, worker_of

STACKS = """\
run (x.py:1);execute_model (y.py:2);forward (llama.py:3);add_lora_linear (kernels.py:9) 30
run (x.py:1);execute_model (y.py:2);forward (llama.py:3);apply (linear.py:4) 50
run (x.py:1);execute_model (y.py:2);activate_adapter (caches.py:5);copy (x.py:1) 10
run (x.py:1);execute_model (y.py:2) 10
"""


def test_a_sample_counts_for_the_most_special_part_on_its_stack() -> None:
    assert shares(STACKS) == {
        "products with adapters' weights": 30,
        "copies into slots": 10,
        "base model": 50,
        REST: 10,
    }


def test_the_plan_of_the_products_is_theirs_though_it_is_made_while_adapters_are_set() -> None:
    assert part_of("_apply_adapters (a.py:1);update_metadata (k.py:2)").startswith("products")


def test_no_samples_are_no_shares() -> None:
    assert shares("") == {}


def test_a_group_without_a_worker_is_told(tmp_path: object) -> None:
    with pytest.raises(ProfilerMissing, match="no worker"):
        worker_of(1, proc=tmp_path)  # type: ignore[arg-type]
