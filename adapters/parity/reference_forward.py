"""Forward passes of the standalone side: teacher forcing in batches by length.

Rows are padded on the right and no attention mask is used: in a causal model nothing behind a
position can reach it, so what stands behind a row does not matter. For the same reason a beginning
that rows share (system prompt, tools) is read once, and its keys and values serve all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapters.parity.reference_batches import Group, Row, plan_groups

OnDone = Callable[[int], None]
"""Hears how many more rows are finished."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row: what the model thinks at each wanted position. Empty where not finite."""

    is_finite: bool
    argmax_ids: tuple[int, ...] = ()
    argmax_logprobs: tuple[float, ...] = ()
    token_logprobs: tuple[float, ...] = ()


def score_rows(model: Any, rows: Sequence[Row], *, on_done: OnDone | None = None) -> list[Scored]:
    """One teacher-forced pass over all rows; results in the order of `rows`.

    `on_done` hears of distinct rows.
    """
    results: dict[Row, Scored] = {}
    for group in plan_groups(rows):
        results.update(score_group(model, group, on_done=on_done))
    return [results[row] for row in rows]


def score_group(model: Any, group: Group, *, on_done: OnDone | None = None) -> dict[Row, Scored]:
    """One teacher-forced pass over the rows of a group."""
    results: dict[Row, Scored] = {}
    watch = _Watch(model)
    with torch.inference_mode(), watch:
        is_shared = bool(group.prefix) and has_plain_cache(model)
        shared = _Shared.read(model, group, watch) if is_shared else None
        for batch in group.batches:
            results.update(_score_batch(model, batch, shared, watch))
            if on_done is not None:
                on_done(len(batch))
    return results


class _Logits:
    """Logits of consecutive positions, the first of them `begin`."""

    def __init__(self, scores: torch.Tensor, *, begin: int) -> None:
        self._scores = scores.float()
        self._begin = begin
        self._normalizer = torch.logsumexp(self._scores, dim=-1)
        self._best, self._best_ids = self._scores.max(dim=-1)
        self.is_finite = all_finite(self._scores)

    def score(self, start: int, targets: Sequence[int]) -> Scored:
        """What is thought of `targets`, the first of them at position `start`."""
        if not targets:
            return Scored(is_finite=True)
        at = slice(start - self._begin, start - self._begin + len(targets))
        normalizer = self._normalizer[at]
        wanted = torch.tensor(targets, device=normalizer.device).unsqueeze(-1)
        chosen = self._scores[at].gather(-1, wanted).squeeze(-1)
        return Scored(
            is_finite=True,
            argmax_ids=tuple(self._best_ids[at].tolist()),
            argmax_logprobs=tuple((self._best[at] - normalizer).tolist()),
            token_logprobs=tuple((chosen - normalizer).tolist()),
        )


@dataclass(frozen=True, slots=True)
class _Shared:
    """A beginning that has been read."""

    n_tokens: int
    cache: Any
    logits: _Logits | None
    """From the first position that a row wants; None where none wants any of them."""
    is_finite: bool

    @classmethod
    def read(cls, model: Any, group: Group, watch: _Watch) -> _Shared:
        n_tokens = len(group.prefix)
        first = min(row.start for batch in group.batches for row in batch)
        keep = torch.arange(min(first, n_tokens - 1), n_tokens, device=model.device)
        ids = torch.tensor([group.prefix], device=model.device)
        watch.begin([n_tokens])
        output = model(input_ids=ids, use_cache=True, logits_to_keep=keep)
        logits = _Logits(output.logits[0], begin=first) if first < n_tokens else None
        is_finite = not watch.is_bad(0) and (logits is None or logits.is_finite)
        return cls(n_tokens, output.past_key_values, logits, is_finite)

    def cache_for(self, n_rows: int) -> Any:
        """Keys and values for a batch; its own, because a pass adds to them."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(n_rows)
        return cache


def _score_batch(
    model: Any, batch: Sequence[Row], shared: _Shared | None, watch: _Watch
) -> dict[Row, Scored]:
    n_shared = shared.n_tokens if shared is not None else 0
    lengths = [len(row.token_ids) - n_shared for row in batch]
    if shared is not None and not shared.is_finite:
        return dict.fromkeys(batch, Scored(is_finite=False))
    first = max(0, min(row.start for row in batch) - n_shared)
    ids = torch.zeros((len(batch), max(lengths)), dtype=torch.long)
    for place, row in enumerate(batch):
        ids[place, : lengths[place]] = torch.tensor(row.token_ids[n_shared:])
    device = model.device
    watch.begin(lengths)
    logits = model(
        input_ids=ids.to(device),
        past_key_values=shared.cache_for(len(batch)) if shared is not None else None,
        use_cache=shared is not None,
        # The output layer is a fifth of a small model: only positions that some row needs.
        logits_to_keep=torch.arange(first, max(lengths), device=device),
    ).logits
    results = {}
    for place, row in enumerate(batch):
        end = row.start + len(row.targets) - n_shared
        begin = max(0, row.start - n_shared)
        own = _Logits(
            logits[place, begin - first : max(begin, end) - first], begin=begin + n_shared
        )
        is_finite = own.is_finite and not watch.is_bad(place)
        results[row] = _join(row, shared, own) if is_finite else Scored(is_finite=False)
    return results


def _join(row: Row, shared: _Shared | None, own: _Logits) -> Scored:
    n_early = 0 if shared is None else max(0, min(shared.n_tokens - row.start, len(row.targets)))
    late = own.score(row.start + n_early, row.targets[n_early:])
    if shared is None or shared.logits is None or not n_early:
        return late
    early = shared.logits.score(row.start, row.targets[:n_early])
    return Scored(
        is_finite=True,
        argmax_ids=early.argmax_ids + late.argmax_ids,
        argmax_logprobs=early.argmax_logprobs + late.argmax_logprobs,
        token_logprobs=early.token_logprobs + late.token_logprobs,
    )


def has_plain_cache(model: Any) -> bool:
    """Whether every layer keeps a key and a value for each position: such a cache can be shared.

    Windows, chunks and recurrent states forget or sum up; rows of such models are read in full and
    generated one by one.
    """
    config = model.config.get_text_config()
    if getattr(config, "layer_types", None) is not None:
        return set(config.layer_types) == {"full_attention"}
    is_stateful = bool(getattr(model, "_is_stateful", False))
    return not is_stateful and getattr(config, "sliding_window", None) is None


def all_finite(values: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; one pass over the memory where that is so."""
    # NaN and infinity survive a sum; a sum of finite values can overflow, so then look again.
    total = values.sum(dtype=torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(values).all())


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
        if all_finite(output):
            return
        n_rows = len(self._lengths)
        if output.ndim != 3 or output.shape[0] != n_rows:
            self._bad.update(range(n_rows))  # tokens of all rows are mixed: none can be trusted
            return
        for place, length in enumerate(self._lengths):
            if not all_finite(output[place, :length]):
                self._bad.add(place)


def greedy(
    model: Any, prompt: Sequence[int], n: int, *, stop_ids: frozenset[int]
) -> tuple[list[int], list[float]]:
    """At most `n` greedy tokens of one prompt and their logprobs; a stop token is the last one."""
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
