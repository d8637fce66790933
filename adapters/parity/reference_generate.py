"""Greedy generation of the standalone side, in batches by length with a key-value cache.

Rows are padded on the left, with a mask and position ids of their own, so that each sees exactly
its tokens at their true positions. Finished rows leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adapters.errors import ReferenceFailed
from adapters.parity.reference_forward import all_finite, has_plain_cache

OnDone = Callable[[int], None]
"""Hears how many more rows are finished."""

_MAX_ROWS = 32
"""Measured on two cores: more rows cost as much each."""
_MAX_HELD_TOKENS = 8192
"""Keys and values of one batch, in tokens, its answers included."""


@dataclass(frozen=True, slots=True)
class Start:
    """Tokens to go on from, for at most `n` more."""

    token_ids: tuple[int, ...]
    n: int


@dataclass(slots=True)
class Grown:
    """What came after a start."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def generate_greedily(
    model: Any,
    starts: Sequence[Start],
    *,
    stop_ids: Collection[int],
    on_done: OnDone | None = None,
) -> list[Grown]:
    """The greedy continuation of every start, in order; a stop token is the last one.

    Equal starts are generated once. Which rows share a batch depends on the rows' content alone,
    not on their order.

    Raises:
        ReferenceFailed: logits are not finite.
    """
    results: dict[Start, Grown] = {item: Grown() for item in starts}
    waiting = [item for item in results if item.n > 0]
    with torch.inference_mode():
        for batch in plan_starts(waiting, max_rows=_MAX_ROWS if has_plain_cache(model) else 1):
            _grow(model, [(item, results[item]) for item in batch], stop_ids)
            if on_done is not None:
                on_done(len(batch))
    return [results[item] for item in starts]


def plan_starts(starts: Sequence[Start], *, max_rows: int = _MAX_ROWS) -> list[list[Start]]:
    """Starts in batches of similar length."""
    batches: list[list[Start]] = []
    longest = 0
    for item in sorted(starts, key=lambda s: (len(s.token_ids), s.token_ids, s.n)):
        current = batches[-1] if batches else []
        longest = max(longest, item.n) if current else item.n
        held = (len(current) + 1) * (len(item.token_ids) + longest)
        if current and len(current) < max_rows and held <= _MAX_HELD_TOKENS:
            current.append(item)
        else:
            batches.append([item])
            longest = item.n
    return batches


def _grow(model: Any, batch: list[tuple[Start, Grown]], stop_ids: Collection[int]) -> None:
    device = model.device
    width = max(len(start.token_ids) for start, _ in batch)
    padding = [width - len(start.token_ids) for start, _ in batch]
    ids = torch.tensor(
        [[0] * pad + list(start.token_ids) for pad, (start, _) in zip(padding, batch, strict=True)],
        device=device,
    )
    places = torch.arange(width, device=device).unsqueeze(0)
    pads = torch.tensor(padding, device=device).unsqueeze(1)
    mask = (places >= pads).long()
    positions = (places - pads).clamp(min=0)
    cache = None
    while batch:
        output = model(
            input_ids=ids,
            # Without padding the plain causal path is taken, as for a single row.
            attention_mask=mask if bool((mask == 0).any()) else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        chosen = _choose(output.logits[:, -1].float(), batch)
        kept = [i for i, (start, grown) in enumerate(batch) if _goes_on(start, grown, stop_ids)]
        if len(kept) < len(batch):
            select = torch.tensor(kept, device=device, dtype=torch.long)
            batch = [batch[i] for i in kept]
            if not batch:
                return
            cache.batch_select_indices(select)
            chosen, mask, positions = chosen[select], mask[select], positions[select]
        ids = chosen.unsqueeze(1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1


def _choose(scores: torch.Tensor, batch: Sequence[tuple[Start, Grown]]) -> torch.Tensor:
    if not all_finite(scores):
        raise ReferenceFailed(reason="logits are not finite while an answer is generated")
    best, chosen = scores.max(dim=-1)
    logprobs = best - torch.logsumexp(scores, dim=-1)
    for (_, grown), token, value in zip(batch, chosen.tolist(), logprobs.tolist(), strict=True):
        grown.token_ids.append(token)
        grown.logprobs.append(value)
    return chosen


def _goes_on(start: Start, grown: Grown, stop_ids: Collection[int]) -> bool:
    return len(grown.token_ids) < start.n and grown.token_ids[-1] not in stop_ids
