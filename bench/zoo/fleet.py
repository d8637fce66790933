"""A `loraplane up` of the zoo's own, for one base and one number type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.fleet import running_fleet
from bench.zoo.sources import RANKS


@contextmanager
def fleet(base: Path, dtype: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Start controller and engine in `folder`; gives (controller's address, admin token).

    Raises:
        FleetFailed: not ready in time.
    """
    with running_fleet(base, folder, profile=_profile(dtype)) as running:
        yield running.url, running.admin_token


def _profile(dtype: str) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "gpu_slots": 2,
        "cpu_slots": 8,
        "max_rank": max(RANKS),
        "max_model_len": 512,
        "max_num_batched_tokens": 256,
        "enforce_eager": True,
        "kv_cache_gib": 1,
    }
