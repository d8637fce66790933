"""The predicted bytes of a slot, and of a token, are those that vLLM allocates.

Three bases of real size and different shapes, on the meta device: grouped queries, biases and tied
embeddings, heads that together are wider than the hidden size.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.base_shapes import linear_shapes
from serving.capacity.sizing import kv_bytes_per_token, slot_bytes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="the engine extra is not installed"
    ),
]
IDS = [*(f"{base}-{rank}" for base in ("llama", "qwen2", "gemma2") for rank in (8, 16, 64)), "some"]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """What vLLM allocates, by base and rank; one process for all, because importing it is slow."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.builders.vllm_slots"],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def shapes_of(measured: dict[str, Any], base: str) -> dict[str, tuple[int, int]]:
    """As `BaseModelCard.modules` has them: from the stored tensors of the base's folder."""
    tensors = {name: ("BF16", tuple(shape)) for name, shape in measured["tensors"][base].items()}
    return linear_shapes(tensors, measured["configs"][base])


@pytest.mark.parametrize("index", range(len(IDS)), ids=IDS)
def test_a_slot_takes_the_bytes_that_vllm_allocates(measured: dict[str, Any], index: int) -> None:
    row = measured["rows"][index]

    predicted = slot_bytes(
        shapes_of(measured, row["base"]),
        max_rank=row["rank"],
        dtype_bytes=row["dtype_bytes"],
        target_modules=row["target_modules"],
    )

    assert predicted > 0
    assert predicted * row["n_slots"] == row["bytes"]


@pytest.mark.parametrize("index", range(0, 9, 3), ids=IDS[0:9:3])
def test_a_token_takes_the_bytes_of_vllms_kv_cache(measured: dict[str, Any], index: int) -> None:
    row = measured["rows"][index]

    predicted = kv_bytes_per_token(shapes_of(measured, row["base"]), dtype_bytes=2)

    assert predicted == row["kv_bytes_per_token"]
