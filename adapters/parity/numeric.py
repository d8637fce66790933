"""Level 1: the engine's answers against the standalone model's view of them, in nats and tokens.

Pure. One answer is compared position by position; after a divergence the comparison stays valid,
because the standalone model was given the answer's own tokens (teacher forcing).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adapters.parity.protocol import VerifyItem, VerifyRow


@dataclass(frozen=True, slots=True)
class CandidateAnswer:
    """One greedy answer of the engine; `logprobs` are the engine's own, one per token."""

    case_id: str
    repeat: int
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str = ""

    @property
    def item(self) -> VerifyItem:
        """What the standalone side has to read for this answer."""
        return VerifyItem(self.case_id, self.prompt_token_ids, self.token_ids)


Verified = Mapping[VerifyItem, VerifyRow]
"""The standalone side's rows by the answer that was read."""


class Resolution(NamedTuple):
    """What a number type can tell apart; a measured floor below this counts as this.

    Just above what a 135M Llama with adapters showed on CPU, engine against PEFT: float32 at most
    3.4e-5 nats and no unequal token of 1886, bfloat16 0.008 nats in the mean and 6 of 854 unequal,
    all with margins under 0.25. float16 has eight times bfloat16's precision; taken between.
    """

    mean_delta_nats: float
    token_disagreement: float
    tie_margin_nats: float
    """Divergences with a smaller margin are near-ties: rounding may decide them either way."""


RESOLUTIONS: Mapping[str, Resolution] = {
    "float32": Resolution(1e-4, 0.001, 0.01),
    "float16": Resolution(0.003, 0.005, 0.1),
    "bfloat16": Resolution(0.01, 0.01, 0.25),
}


def resolution_of(dtype: str) -> Resolution:
    """Resolution of a number type; an unknown one gets the coarsest."""
    return RESOLUTIONS.get(dtype, RESOLUTIONS["bfloat16"])


@dataclass(frozen=True, slots=True)
class AnswerNumbers:
    """Level 1 measures of one answer. None: undefined (no token, or not finite)."""

    case_id: str
    repeat: int
    n_tokens: int
    n_equal: int
    mean_delta_nats: float | None
    max_delta_nats: float | None
    first_divergence: int | None
    """Position of the first token that is not the standalone model's choice."""
    divergence_margin_nats: float | None
    """How much the standalone model prefers its own token there."""
    n_real_divergences: int
    """Positions that no near-tie explains."""
    is_finite: bool
    margins_nats: tuple[float, ...] = ()
    """Of every position that diverged, in order."""

    @property
    def is_same_answer(self) -> bool:
        """The standalone model's own greedy answer is this one, by induction over positions."""
        return self.is_finite and self.n_tokens > 0 and self.first_divergence is None


@dataclass(frozen=True, slots=True)
class NumericTotals:
    """Level 1 measures over many answers, weighted by token. None: undefined, never zero."""

    n_answers: int
    n_tokens: int
    n_equal: int
    n_same_answers: int
    n_real_divergences: int
    n_non_finite: int
    mean_delta_nats: float | None
    max_delta_nats: float | None

    @property
    def token_agreement(self) -> float | None:
        """Share of tokens that are the standalone model's own choice."""
        return self.n_equal / self.n_tokens if self.n_tokens else None


def measure_answer(
    answer: CandidateAnswer, row: VerifyRow, *, tie_margin_nats: float
) -> AnswerNumbers:
    """Compare one answer with the standalone model's view of it.

    Raises:
        ValueError: the row is not of this answer (other lengths): a bug, not a measurement.
    """
    n = len(answer.token_ids)
    if len(answer.logprobs) != n or (row.is_finite and len(row.argmax_ids) != n):
        raise ValueError(f"case {answer.case_id}: {n} tokens, other lengths beside them")
    if not row.is_finite or not all(math.isfinite(value) for value in answer.logprobs):
        return AnswerNumbers(
            answer.case_id, answer.repeat, n, 0, None, None, None, None, 0, is_finite=False
        )
    deltas = [abs(a - b) for a, b in zip(answer.logprobs, row.token_logprobs, strict=True)]
    diverged = [i for i in range(n) if row.argmax_ids[i] != answer.token_ids[i]]
    return AnswerNumbers(
        case_id=answer.case_id,
        repeat=answer.repeat,
        n_tokens=n,
        n_equal=n - len(diverged),
        mean_delta_nats=math.fsum(deltas) / n if n else None,
        max_delta_nats=max(deltas, default=None),
        first_divergence=diverged[0] if diverged else None,
        divergence_margin_nats=row.margin(diverged[0]) if diverged else None,
        n_real_divergences=sum(row.margin(i) > tie_margin_nats for i in diverged),
        is_finite=True,
        margins_nats=tuple(row.margin(i) for i in diverged),
    )


def total(answers: Sequence[AnswerNumbers]) -> NumericTotals:
    """Sum over answers; a non-finite answer counts as such and adds no numbers."""
    finite = [item for item in answers if item.is_finite]
    weighted = [(i.mean_delta_nats, i.n_tokens) for i in finite if i.mean_delta_nats is not None]
    n_weighted = sum(n for _, n in weighted)
    return NumericTotals(
        n_answers=len(answers),
        n_tokens=sum(item.n_tokens for item in finite),
        n_equal=sum(item.n_equal for item in finite),
        n_same_answers=sum(item.is_same_answer for item in answers),
        n_real_divergences=sum(item.n_real_divergences for item in finite),
        n_non_finite=len(answers) - len(finite),
        mean_delta_nats=math.fsum(d * n for d, n in weighted) / n_weighted if n_weighted else None,
        max_delta_nats=max(
            (i.max_delta_nats for i in finite if i.max_delta_nats is not None), default=None
        ),
    )


@dataclass(frozen=True, slots=True)
class RepeatNumbers:
    """How far the engine's repeated answers to one prompt agree with the first.

    A pair of answers is compared up to its first difference and no further: what follows has
    another context.
    """

    n_repeats: int
    n_pairs: int
    n_equal_pairs: int
    n_compared_tokens: int
    n_equal_tokens: int

    @property
    def token_agreement(self) -> float | None:
        """Share of compared tokens that are equal; None with fewer than two repeats."""
        return self.n_equal_tokens / self.n_compared_tokens if self.n_compared_tokens else None


def measure_repeats(answers: Sequence[CandidateAnswer]) -> RepeatNumbers:
    """Compare each later repeat of a case with its first one."""
    by_case: dict[str, list[CandidateAnswer]] = {}
    for answer in sorted(answers, key=lambda item: item.repeat):
        by_case.setdefault(answer.case_id, []).append(answer)
    n_pairs = n_equal_pairs = compared = equal = 0
    for first, *others in by_case.values():
        for other in others:
            prefix = _common_prefix(first.token_ids, other.token_ids)
            is_equal = first.token_ids == other.token_ids
            n_pairs += 1
            n_equal_pairs += is_equal
            compared += prefix + (not is_equal)
            equal += prefix
    n_repeats = max((len(items) for items in by_case.values()), default=0)
    return RepeatNumbers(n_repeats, n_pairs, n_equal_pairs, compared, equal)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
