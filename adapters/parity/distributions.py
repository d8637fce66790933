"""How far two models' log probabilities are apart, as quantiles: what the report draws. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.parity.numeric import CandidateAnswer, Verified

PROBABILITIES = tuple(i / 100 for i in range(101))
Quantiles = tuple[float, ...]
"""|delta logprob| per token in nats at each of `PROBABILITIES`."""


@dataclass(frozen=True, slots=True)
class Distributions:
    """|delta logprob| of the candidate and of both controls; None: not measured."""

    candidate: Quantiles | None = None
    """Engine against standalone, both with the adapter."""
    negative: Quantiles | None = None
    """Engine against standalone, both without: the noise floor."""
    positive: Quantiles | None = None
    """Standalone with the adapter against without: what the adapter changes."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; None stays null."""
        return {
            "probabilities": list(PROBABILITIES),
            **{
                name: None if values is None else [round(value, 9) for value in values]
                for name, values in (
                    ("candidate", self.candidate),
                    ("negative", self.negative),
                    ("positive", self.positive),
                )
            },
        }


def engine_quantiles(answers: Iterable[CandidateAnswer], rows: Verified) -> Quantiles | None:
    """Of the engine's logprobs against the standalone model's, token by token."""
    return _quantiles(
        (answer.logprobs, rows[answer.item].token_logprobs)
        for answer in answers
        if rows[answer.item].is_finite
    )


def effect_quantiles(rows: Verified) -> Quantiles | None:
    """Of the standalone model's logprobs with the adapter against those without."""
    return _quantiles(
        (row.token_logprobs, row.base_token_logprobs)
        for row in rows.values()
        if row.is_finite and row.base_token_logprobs
    )


def _quantiles(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> Quantiles | None:
    flat = itertools.chain.from_iterable(zip(a, b, strict=True) for a, b in pairs)
    deltas = [abs(a - b) for a, b in flat]
    finite = np.asarray([delta for delta in deltas if math.isfinite(delta)], dtype=np.float64)
    if finite.size == 0:
        return None
    return tuple(float(value) for value in np.quantile(finite, PROBABILITIES))
