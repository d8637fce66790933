"""Forward passes of the standalone side: batches by length, teacher forcing, greedy decoding.

Rows are padded on the right and no attention mask is used: in a causal model nothing behind a
position can reach it, so a row's numbers don't depend on its batch mates' lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

MAX_BATCH_TOKENS = 1024
"""Padded tokens of one forward pass; bounds its logits (200 MB with 49,152 tokens, float32)."""

OnDone = Callable[[int], None]
"""Hears how many more rows are finished."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row: what the model thinks at each wanted position. Empty where not finite."""

    is_finite: bool
    argmax_ids: tuple[int, ...] = ()
    argmax_logprobs: tuple[float, ...] = ()
    token_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to read; `targets[i]` is scored at position `start + i` (it follows that token)."""

    token_ids: tuple[int, ...]
    start: int
    targets: tuple[int, ...]


def plan_batches(lengths: Sequence[int], *, max_tokens: int = MAX_BATCH_TOKENS) -> list[list[int]]:
    """Indices in batches of similar length; a batch's padded size stays within `max_tokens`.

    A single row that is longer makes a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        current = batches[-1] if batches else []
        if current and (len(current) + 1) * lengths[index] <= max_tokens:
            current.append(index)
        else:
            batches.append([index])
    return batches


def score_rows(model: Any, rows: Sequence[Row], *, on_done: OnDone | None = None) -> list[Scored]:
    """One teacher-forced pass over all rows; results in the order of `rows`."""
    results: list[Scored | None] = [None] * len(rows)
    watch = _Watch(model)
    with torch.inference_mode(), watch:
        for batch in plan_batches([len(row.token_ids) for row in rows]):
            for index, scored in _score_batch(model, rows, batch, watch):
                results[index] = scored
            if on_done is not None:
                on_done(len(batch))
    return [item for item in results if item is not None]


def _score_batch(
    model: Any, rows: Sequence[Row], batch: Sequence[int], watch: _Watch
) -> Iterator[tuple[int, Scored]]:
    width = max(len(rows[index].token_ids) for index in batch)
    first = min(rows[index].start for index in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    for place, index in enumerate(batch):
        ids[place, : len(rows[index].token_ids)] = torch.tensor(rows[index].token_ids)
    device = model.device
    watch.begin([len(rows[index].token_ids) for index in batch])
    # The output layer is a fifth of a small model: only positions that some row needs.
    keep = torch.arange(first, width, device=device)
    logits = model(input_ids=ids.to(device), use_cache=False, logits_to_keep=keep).logits
    for place, index in enumerate(batch):
        row = rows[index]
        begin = row.start - first
        scores = logits[place, begin : begin + len(row.targets)].float()
        is_finite = not watch.is_bad(place) and bool(torch.isfinite(scores).all())
        yield index, _score(scores, row.targets) if is_finite else Scored(is_finite=False)


def _score(scores: torch.Tensor, targets: Sequence[int]) -> Scored:
    if not targets:
        return Scored(is_finite=True)
    normalizer = torch.logsumexp(scores, dim=-1)
    best, best_ids = scores.max(dim=-1)
    wanted = torch.tensor(targets, device=scores.device).unsqueeze(-1)
    chosen = scores.gather(-1, wanted).squeeze(-1)
    return Scored(
        is_finite=True,
        argmax_ids=tuple(best_ids.tolist()),
        argmax_logprobs=tuple((best - normalizer).tolist()),
        token_logprobs=tuple((chosen - normalizer).tolist()),
    )


class _Watch:
    """Sees values that are not finite inside adapted modules, even where the logits hide them.

    An infinite key can vanish in a softmax and still stay in a cache that an engine's tenants
    share. Without an adapter there is nothing to watch.
    """

    def __init__(self, model: Any) -> None:
        self._modules = [module for module in model.modules() if hasattr(module, "lora_A")]
        self._handles: list[Any] = []
        self._lengths: list[int] = []
        self._bad: set[int] = set()

    def __enter__(self) -> None:
        self._handles = [item.register_forward_hook(self._look) for item in self._modules]

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    def begin(self, lengths: list[int]) -> None:
        """Start a batch whose rows have these lengths; padding is not looked at."""
        self._lengths = lengths
        self._bad = set()

    def is_bad(self, place: int) -> bool:
        """Whether row `place` of the current batch held such a value."""
        return place in self._bad

    def _look(self, _module: Any, _inputs: Any, output: torch.Tensor) -> None:
        if bool(torch.isfinite(output).all()):
            return
        n_rows = len(self._lengths)
        if output.ndim != 3 or output.shape[0] != n_rows:
            self._bad.update(range(n_rows))  # tokens of all rows are mixed: none can be trusted
            return
        for place, length in enumerate(self._lengths):
            if not bool(torch.isfinite(output[place, :length]).all()):
                self._bad.add(place)


def greedy(
    model: Any, prompt: Sequence[int], n: int, *, stop_ids: frozenset[int]
) -> tuple[list[int], list[float]]:
    """At most `n` greedy tokens and their logprobs; a stop token is the last one."""
    tokens: list[int] = []
    logprobs: list[float] = []
    ids = torch.tensor([list(prompt)], device=model.device)
    cache = None
    with torch.inference_mode():
        while len(tokens) < n:
            output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            scores = torch.log_softmax(output.logits[0, -1].float(), dim=-1)
            token = int(scores.argmax())
            tokens.append(token)
            logprobs.append(float(scores[token]))
            if token in stop_ids:
                break
            ids = torch.tensor([[token]], device=model.device)
    return tokens, logprobs


def stop_ids_of(model: Any) -> frozenset[int]:
    """End-of-sequence tokens: the generation config's, else the model config's."""
    for config in (getattr(model, "generation_config", None), model.config):
        value = getattr(config, "eos_token_id", None)
        if value is not None:
            return frozenset([value] if isinstance(value, int) else value)
    return frozenset()
