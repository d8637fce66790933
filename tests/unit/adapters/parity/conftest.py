"""The micro base, one trained adapter with its fingerprint, and copies to spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders.micro_base import PROMPTS, live_adapter, micro_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_base(tmp_path_factory.mktemp("micro-base"))


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="session")
def trained(base: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained adapter's folder, with its fingerprint. Not to be changed: see `copy`."""
    from adapters.parity import record_fingerprint

    folder = tmp_path_factory.mktemp("trained")
    model = live_adapter(base)
    model.save_pretrained(folder)
    record_fingerprint(model, tokenizer, PROMPTS, folder)
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained adapter that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


@pytest.fixture
def make(base: Path, tokenizer: Any, tmp_path: Path) -> Callable[..., Path]:
    """Trains another adapter with a fingerprint; arguments go to its LoraConfig."""
    from adapters.parity import record_fingerprint

    def build(**config: Any) -> Path:
        folder = tmp_path / "made"
        model = live_adapter(base, **config)
        model.save_pretrained(folder)
        record_fingerprint(model, tokenizer, PROMPTS, folder)
        return folder

    return build
