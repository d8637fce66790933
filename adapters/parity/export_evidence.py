"""Link A, training -> files: what vouches that the uploaded files are what was trained. Pure.

A training fingerprint is compared twice: module by module (hashes, scalings: `fingerprint_check`)
and by its recorded answers, which the standalone model must give again (`judge_answers`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from adapters.parity.numeric import (
    CandidateAnswer,
    NumericTotals,
    measure_answer,
    resolution_of,
    total,
)
from adapters.parity.protocol import VerifyRow

MIN_MEAN_DELTA_NATS = 0.02
"""Training and gate run on other machines; TF32 on a GPU moves logprobs by some thousandths."""
NOISE_FACTOR = 3.0


class ExportStatus(StrEnum):
    """They complete the sentence "the evidence that the files are what was trained is ..."."""

    ABSENT = "absent"
    MATCHED = "matched"
    MISMATCHED = "mismatched"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ExportFinding:
    """One difference between training and files; `code` is a stable slug."""

    code: str
    where: str | None
    found: Any
    trained: Any
    text: str
    is_mismatch: bool = True
    """False: it only leaves the question open."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "code": self.code,
            "where": self.where,
            "found": self.found,
            "trained": self.trained,
            "text": self.text,
            "is_mismatch": self.is_mismatch,
        }


@dataclass(frozen=True, slots=True)
class ExportEvidence:
    """What is known of link A."""

    status: ExportStatus
    findings: tuple[ExportFinding, ...] = ()
    n_modules: int = 0
    n_answers: int = 0

    @property
    def is_mismatch(self) -> bool:
        """The files are not what was trained."""
        return self.status is ExportStatus.MISMATCHED

    def first_line(self) -> str:
        """The report's first line: who vouches for the files."""
        if self.status is ExportStatus.MATCHED:
            return (
                f"A fingerprint recorded at training vouches for the files: {self.n_modules} "
                f"modules and {self.n_answers} answers match."
            )
        if self.status is ExportStatus.MISMATCHED:
            return f"The files are not what was trained: {self.findings[0].text}"
        if self.status is ExportStatus.UNDECIDED:
            return f"A training fingerprint exists but decides nothing: {self.findings[0].text}"
        return (
            "Nothing independent vouches for the files: no training fingerprint was uploaded, so "
            "an export mistake that engine and reference share cannot be seen."
        )


NO_EVIDENCE = ExportEvidence(ExportStatus.ABSENT)


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One greedy answer of the live model at the end of training."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    base_logprobs: tuple[float, ...] = ()
    """Of the same tokens without the adapter; empty: not recorded."""


def judge_answers(
    answers: Sequence[RecordedAnswer],
    rows: Sequence[VerifyRow],
    *,
    dtypes: Sequence[str],
    is_quantized: bool = False,
) -> list[ExportFinding]:
    """Do the files still give the answers that the trained model gave?

    `dtypes` are the number types of training and gate; the coarser one says what is allowed, or the
    control does: how far the *base* is from what it said of the same tokens at training. A base
    that was quantized at training computes other numbers by itself, so there a difference decides
    nothing.

    Raises:
        ValueError: rows are not of these answers.
    """
    if not answers:
        text = "the fingerprint holds no answers; only the modules could be compared"
        return [ExportFinding("export_answers_absent", None, 0, None, text, is_mismatch=False)]
    coarsest = max((resolution_of(d) for d in dtypes), key=lambda item: item.mean_delta_nats)
    control = _control(answers, rows)
    tie = max(coarsest.tie_margin_nats, 0.05)
    numbers = []
    for index, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        candidate = CandidateAnswer(
            f"fingerprint-{index}", 0, answer.prompt_token_ids, answer.token_ids, answer.logprobs
        )
        numbers.append(measure_answer(candidate, row, tie_margin_nats=tie))
    sums = total(numbers)
    if sums.n_non_finite:
        text = "the standalone model gives values that are not finite where training gave numbers"
        return [ExportFinding("export_answers_not_finite", None, sums.n_non_finite, 0, text)]
    if sums.mean_delta_nats is None or math.isnan(sums.mean_delta_nats):
        text = "the recorded answers are empty"
        return [ExportFinding("export_answers_absent", None, 0, None, text, is_mismatch=False)]
    plain = max(MIN_MEAN_DELTA_NATS, NOISE_FACTOR * coarsest.mean_delta_nats)
    return list(_differences(sums, control, plain=plain, is_quantized=is_quantized))


class _Control(NamedTuple):
    """The base's own disagreement between training and gate, and what the adapter changed."""

    floor_nats: float = 0.0
    effect_nats: float = math.inf

    @property
    def is_clear(self) -> bool:
        """Whether the adapter can be told from the base through this noise."""
        return NOISE_FACTOR * self.floor_nats <= self.effect_nats


def _control(answers: Sequence[RecordedAnswer], rows: Sequence[VerifyRow]) -> _Control:
    floor: list[float] = []
    effect: list[float] = []
    for answer, row in zip(answers, rows, strict=True):
        if answer.base_logprobs and row.base_token_logprobs:
            pairs = zip(answer.base_logprobs, row.base_token_logprobs, strict=True)
            floor += [abs(then - now) for then, now in pairs]
            effect += [
                abs(a - b) for a, b in zip(answer.logprobs, answer.base_logprobs, strict=True)
            ]
    if not floor or not all(map(math.isfinite, floor)):
        return _Control()  # not recorded: the number types alone say what is allowed
    return _Control(math.fsum(floor) / len(floor), math.fsum(effect) / len(effect))


def _differences(
    sums: NumericTotals, control: _Control, *, plain: float, is_quantized: bool
) -> Iterator[ExportFinding]:
    mean, allowed = sums.mean_delta_nats or 0.0, max(plain, NOISE_FACTOR * control.floor_nats)
    if mean > plain and not control.is_clear:
        text = (
            f"the base itself is {control.floor_nats:.3g} nats from what it was at training, where "
            f"the adapter changes {control.effect_nats:.3g}: the answers decide nothing"
        )
        yield ExportFinding(
            "export_answers_unclear", None, mean, control.floor_nats, text, is_mismatch=False
        )
    elif mean > allowed:
        text = (
            f"the trained model's answers are not given again: mean difference {mean:.3g} nats "
            f"over {sums.n_tokens} tokens, allowed {allowed:.3g}"
        )
        yield ExportFinding(
            "export_answers_differ", None, mean, allowed, text, is_mismatch=not is_quantized
        )
    elif sums.n_real_divergences and control.floor_nats <= plain:
        # Where the base itself is off by more, single tokens of the adapter say nothing.
        text = f"{sums.n_real_divergences} recorded tokens are no longer chosen, beyond near-ties"
        yield ExportFinding(
            "export_tokens_differ", None, sums.n_real_divergences, 0, text, is_mismatch=False
        )


def weigh(findings: Sequence[ExportFinding], *, n_modules: int, n_answers: int) -> ExportEvidence:
    """One status from all findings; mismatches come first."""
    ordered = tuple(sorted(findings, key=lambda item: not item.is_mismatch))
    status = ExportStatus.MATCHED
    if ordered:
        status = ExportStatus.MISMATCHED if ordered[0].is_mismatch else ExportStatus.UNDECIDED
    return ExportEvidence(status, ordered, n_modules=n_modules, n_answers=n_answers)
