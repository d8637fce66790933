"""Synthetic adapters are whole adapters: what an upload is checked for holds for them too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.base_model import read_base_model
from adapters.errors import BaseModelError
from adapters.limits import EngineLimits
from adapters.manifest import manifest_of_folder
from adapters.preflight import check_folder
from bench.fixtures.tensor_files import read_tensors
from serving.tuning.synthetic_adapter import write_synthetic_adapter
from tests.builders.base_folders import write_base_folder

TARGETS = ("q_proj", "down_proj")


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_an_upload_of_it_would_be_accepted(tmp_path: Path, rank: int) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base"))

    written = write_synthetic_adapter(tmp_path / "a", card, rank=rank, targets=TARGETS, seed=rank)

    report = check_folder(written, card, EngineLimits(max_rank=8, dtype="float32"))
    assert [finding.code for finding in report.findings] == ["fingerprint_absent"]
    assert not report.is_blocked


def test_a_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base"))

    digests = [
        manifest_of_folder(
            write_synthetic_adapter(
                tmp_path / str(number), card, rank=4, targets=TARGETS, seed=seed
            )
        ).digest
        for number, seed in enumerate((1, 1, 2))
    ]

    assert digests[0] == digests[1] != digests[2]


def test_its_values_are_small_and_spread_around_zero(tmp_path: Path) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base"))

    folder = write_synthetic_adapter(tmp_path / "a", card, rank=8, targets=TARGETS, seed=0)

    for name, raw in read_tensors(folder / "adapter_model.safetensors").items():
        halves = raw.view(np.uint16).astype(np.uint32) << np.uint32(16)
        values = halves.view(np.float32)
        assert np.abs(values).max() <= 0.01, name
        assert abs(values.mean()) < 0.002, name


def test_a_base_without_such_modules_is_refused_with_what_it_has(tmp_path: Path) -> None:
    card = read_base_model(write_base_folder(tmp_path / "base"))

    with pytest.raises(BaseModelError, match="q_proj"):
        write_synthetic_adapter(tmp_path / "a", card, rank=4, targets=("wqkv",), seed=0)
