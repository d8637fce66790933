"""A base model with PEFT adapters, on CPU: what the fakes answer from, by really running it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM


class LoadRefused(Exception):
    """The strict load check found tensors that do not fit, or values that are not finite."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Generated:
    token_ids: list[int]
    logprobs: list[float]
    ended: bool


class TinyModel:
    """Thread-safe; one pass at a time. Adapter keys are digests: module names take no dot."""

    def __init__(self, base: Path) -> None:
        self.base, self._lock = base, threading.Lock()
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self._end = model.generation_config.eos_token_id or model.config.eos_token_id
        self._model: Any = get_peft_model(
            model, LoraConfig(r=1, target_modules=["q_proj"], inference_mode=True), "nothing"
        )
        self._loaded: set[str] = set()

    def load(self, folder: Path, key: str) -> None:
        """Load strictly.

        Raises:
            LoadRefused: a tensor is left over, missing or not finite.
        """
        with self._lock:
            if key in self._loaded:
                return
            _refuse_non_finite(folder / "adapter_model.safetensors")
            try:
                result = self._model.load_adapter(str(folder), adapter_name=key)
            except (RuntimeError, ValueError, KeyError) as exc:
                raise LoadRefused("load_error", str(exc)[:300]) from exc
            missing = [name for name in result.missing_keys if f".{key}." in name]
            if missing or result.unexpected_keys:
                self._model.delete_adapter(key)
                raise LoadRefused(
                    "strict_load_failed",
                    f"missing {missing[:3]}, unexpected {list(result.unexpected_keys)[:3]}",
                )
            self._loaded.add(key)

    def unload(self, key: str) -> None:
        with self._lock:
            if key in self._loaded:
                self._loaded.discard(key)
                self._model.set_adapter("nothing")
                self._model.delete_adapter(key)

    def generate(self, prompt: Sequence[int], *, max_tokens: int, key: str | None) -> Generated:
        """The greedy continuation; `key` None: the base model."""
        with self._lock, torch.inference_mode():
            if key is None:
                with self._model.disable_adapter():
                    return self._greedy(prompt, max_tokens)
            self._model.set_adapter(key)
            return self._greedy(prompt, max_tokens)

    def read(self, tokens: Sequence[int], *, key: str | None) -> torch.Tensor:
        """Log probabilities [position, vocabulary] of one teacher-forced pass."""
        with self._lock, torch.inference_mode():
            if key is None:
                with self._model.disable_adapter():
                    return self._log_probabilities(tokens)
            self._model.set_adapter(key)
            return self._log_probabilities(tokens)

    def _log_probabilities(self, tokens: Sequence[int]) -> torch.Tensor:
        logits = self._model(input_ids=torch.tensor([list(tokens)])).logits[0]
        return torch.log_softmax(logits.float(), dim=-1)

    def _greedy(self, prompt: Sequence[int], max_tokens: int) -> Generated:
        tokens: list[int] = []
        logprobs: list[float] = []
        ids = torch.tensor([list(prompt)])
        cache = None
        while len(tokens) < max_tokens:
            output = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            scores = torch.log_softmax(output.logits[0, -1].float(), dim=-1)
            token = int(scores.argmax())
            tokens.append(token)
            logprobs.append(float(scores[token]))
            if token == self._end:
                break
            ids = torch.tensor([[token]])
        return Generated(tokens, logprobs, ended=bool(tokens) and tokens[-1] == self._end)


def _refuse_non_finite(file: Path) -> None:
    with safe_open(str(file), framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict
            if not bool(torch.isfinite(tensors.get_tensor(name)).all()):
                raise LoadRefused("non_finite_weights", name)
