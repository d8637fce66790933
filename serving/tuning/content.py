"""What synthetic requests say: token ids or words, drawn so that no two prompts share a beginning.

Pure. A prefix cache keeps blocks of tokens from the front, so random first tokens keep it out of
a measurement; a class's `shared_prefix` lets it in on purpose, for as many tokens as it says.
"""

from __future__ import annotations

import numpy as np

from serving.tuning.load_shape import Arrival

_SPECIAL_SHARE = 10
"""The lowest 1 / 10 of the ids is left out: tokenizers keep their special tokens there."""
_PROMPTS, _PREFIXES = 1, 2
"""Streams of randomness of their own, so that no prefix is also a prompt."""
_WORDS = (
    "answer", "bird", "cloud", "door", "engine", "field", "garden", "house", "island", "journey",
    "key", "letter", "market", "north", "ocean", "paper", "quiet", "river", "stone", "table",
    "under", "valley", "water", "year",
)  # fmt: skip


def prompt_tokens(arrival: Arrival, *, index: int, seed: int, vocabulary: int) -> list[int]:
    """Exactly `arrival.n_prompt` token ids below `vocabulary`, the same for the same seed."""
    return _numbers(arrival, index, seed, low=vocabulary // _SPECIAL_SHARE, high=vocabulary)


def prompt_words(arrival: Arrival, *, index: int, seed: int) -> str:
    """About as many tokens in common English words, each one token of most vocabularies."""
    numbers = _numbers(arrival, index, seed, low=0, high=len(_WORDS))
    return " ".join(_WORDS[number] for number in numbers)


def _numbers(arrival: Arrival, index: int, seed: int, *, low: int, high: int) -> list[int]:
    n_shared = min(arrival.n_shared, arrival.n_prompt)
    of = (seed, _PREFIXES, arrival.adapter, *arrival.kind.encode())
    shared = _draw(low, high, n_shared, of)
    return shared + _draw(low, high, arrival.n_prompt - n_shared, (seed, _PROMPTS, index))


def _draw(low: int, high: int, n: int, key: tuple[int, ...]) -> list[int]:
    if n == 0:
        return []
    drawn: list[int] = np.random.default_rng(key).integers(low, high, size=n).tolist()
    return drawn
