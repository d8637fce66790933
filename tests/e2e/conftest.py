"""One real engine for the whole session: two cores take half a minute to start it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import tiny_base
from tests.e2e.fleet import Fleet, running

GPU_SLOTS, CPU_SLOTS = 3, 6
PROFILE = {
    # Few KV blocks, so that they are used again and again: what one request leaves in a block,
    # another one finds there.
    "extra_arguments": ["--num-gpu-blocks-override=48"],
    "kv_cache_gib": 1,
    "enforce_eager": True,
    "max_num_batched_tokens": 256,
    "dtype": "float32",
    "max_model_len": 512,
    "max_rank": 16,
}


@pytest.fixture(scope="session")
def base() -> Path:
    return tiny_base()


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sixteen good adapters, each with a visible effect of its own."""
    folder = tmp_path_factory.mktemp("adapters")
    return make_random_adapters(16, base=base, folder=folder, rank=8, strength=0.5)


@pytest.fixture(scope="session")
def fleet(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Shared by all tests: each uses tenants of its own."""
    folder = tmp_path_factory.mktemp("fleet")
    # Fewer places in memory than the profile's rule allows, so that both caches evict.
    profile = {**PROFILE, "gpu_slots": GPU_SLOTS, "cpu_slots": CPU_SLOTS, "waived": ["cpu_slots"]}
    with running(Fleet(base, folder, profile)) as started:
        yield started


_numbers = itertools.count(1)


@pytest.fixture
def tenant() -> str:
    """A tenant name that no other test uses."""
    return f"tenant{next(_numbers)}"
