"""What training would have left behind: a visible effect, and a fingerprint of the live model.

The generated adapters were never trained. So their weights are scaled until the answers move by
about one nat, and the fingerprint is recorded by `record_fingerprint` from a live PEFT model that
holds exactly the file's values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.parity import record_fingerprint
from adapters.parity.reference_batches import Row
from adapters.parity.reference_forward import greedy, score_rows, stop_ids_of
from bench.fixtures.adapter_files import TENSORS

_LOW_NATS, _HIGH_NATS = 0.4, 2.5
_MAX_TRIES = 10
_PROMPTS = ("Guest 7 would like to", "The tool for the weather is", "Please write a short list")
_N_ANSWER, _N_RECORDED = 12, 8
_TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class _Known(NamedTuple):
    """The base's own answers, to see an effect on."""

    rows: list[Row]
    logprobs: np.ndarray[Any, Any]


class Voucher:
    """One base in memory, in float32, and adapters put on it one at a time."""

    def __init__(self, folder: Path, *, is_altered: bool = False) -> None:
        """Load the base; `is_altered` makes every weight a little larger: another base."""
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if is_altered:
            with torch.no_grad():
                for weight in self._base.parameters():
                    weight.mul_(1.05)
        self._known: _Known | None = None

    def vouch(self, folder: Path) -> Path:
        """Record the fingerprint of the folder's adapter beside it."""
        with _Worn(self._base, folder) as model:
            return record_fingerprint(
                model, self._tokenizer, _PROMPTS, folder, max_new_tokens=_N_RECORDED
            )

    def tune(self, write: Callable[[float], Path], strength: float) -> Path:
        """Write with other strengths until the adapter moves the base's answers visibly.

        Raises:
            ValueError: no strength does.
        """
        low, high = 0.0, float("inf")
        for _ in range(_MAX_TRIES):
            folder = write(strength)
            effect = self.effect_nats(folder)
            if _LOW_NATS <= effect <= _HIGH_NATS:
                return folder
            if effect < _LOW_NATS:
                low = strength
            else:
                high = strength
            # The effect grows by leaps, not in proportion: close in on it from both sides.
            strength = float(np.sqrt(low * high)) if low and high < np.inf else low * 2 or high / 2
        raise ValueError(f"{folder}: an effect of {effect:.3g} nats after {_MAX_TRIES} tries")

    def effect_nats(self, folder: Path) -> float:
        """Mean |delta logprob| over the base's greedy answers to a few prompts."""
        known = self._answers()
        with _Worn(self._base, folder) as model:
            return float(np.abs(_logprobs(model, known.rows) - known.logprobs).mean())

    def _answers(self) -> _Known:
        if self._known is None:
            stops = stop_ids_of(self._base)
            rows = []
            for prompt in _PROMPTS:
                ids = self._tokenizer(prompt).input_ids
                tokens, _ = greedy(self._base, ids, _N_ANSWER, stop_ids=stops)
                rows.append(Row((*ids, *tokens), len(ids) - 1, tuple(tokens)))
            self._known = _Known(rows, _logprobs(self._base, rows))
        return self._known


def _logprobs(model: Any, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    scored = score_rows(model, rows)
    return np.array([value for item in scored for value in item.token_logprobs])


class _Worn:
    """The base with an adapter on, in the number type of its file; taken off again at the end."""

    def __init__(self, base: Any, folder: Path) -> None:
        self._base, self._folder = base, folder
        self._model: Any = None

    def __enter__(self) -> Any:
        model = PeftModel.from_pretrained(
            self._base, str(self._folder), autocast_adapter_dtype=False
        )
        dtype = _dtype_of(self._folder)
        for name, weight in model.named_parameters():
            if ".lora_" in name:
                weight.data = weight.data.to(dtype)
        self._model = model.eval()
        return self._model

    def __exit__(self, *_exc: object) -> None:
        base = self._model.unload()
        if hasattr(base, "peft_config"):
            del base.peft_config


def _dtype_of(folder: Path) -> torch.dtype:
    data = (folder / TENSORS).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return next(_TORCH[entry["dtype"]] for key, entry in header.items() if key != "__metadata__")
