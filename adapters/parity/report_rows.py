"""The report's raw rows: every case with every answer, and every divergence. Pure.

Repeats that say the same tokens share one copy of everything that depends on the tokens alone, so
that a record of thousands of cases stays readable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapters.parity.gate_plan import GateInputs, Measurements
from adapters.parity.numeric import AnswerNumbers, CandidateAnswer, resolution_of
from adapters.parity.suite import Suite
from adapters.parity.task_measure import CaseTask

_DIGITS = 9
"""Decimals of a logprob: a thousandth of what float32 can tell apart near 1 nat."""


def case_rows(suite: Suite, inputs: GateInputs, measured: Measurements) -> list[dict[str, Any]]:
    """One row per case of the suite, in its order."""
    by_case: dict[str, list[CandidateAnswer]] = {}
    for answer in inputs.answers:
        by_case.setdefault(answer.case_id, []).append(answer)
    numbers = {(item.case_id, item.repeat): item for item in measured.per_answer}
    effects = {row.case_id: row for row in inputs.effects}
    tasks = {item.case_id: item for item in measured.task.cases}
    rows = []
    for case in suite.cases:
        answers = by_case.get(case.id, [])
        effect = effects.get(case.id)
        rows.append(
            {
                "id": case.id,
                "segment": case.segment,
                "prompt_token_ids": list(answers[0].prompt_token_ids) if answers else [],
                "effect_nats": measured.effect_by_case.get(case.id),
                "is_finite_alone": None if effect is None else effect.is_finite,
                "standalone_text": inputs.task.standalone.get(case.id),
                "live_text": inputs.task.live.get(case.id),
                "equality": _equality(tasks.get(case.id)),
                "scores": _scores(tasks.get(case.id)),
                "answers": list(_answers(answers, inputs, numbers)),
            }
        )
    return rows


def divergence_rows(
    suite: Suite, inputs: GateInputs, measured: Measurements
) -> list[dict[str, Any]]:
    """Each different answer that leaves the standalone model's own, the largest margin first."""
    tie = resolution_of(measured.dtype).tie_margin_nats
    segments = {case.id: case.segment for case in suite.cases}
    tasks = {item.case_id: item for item in measured.task.cases}
    seen: set[Any] = set()
    rows = []
    for answer, numbers in zip(inputs.answers, measured.per_answer, strict=True):
        position, margin = numbers.first_divergence, numbers.divergence_margin_nats
        if position is None or margin is None or answer.item in seen:
            continue
        seen.add(answer.item)
        rows.append(
            {
                "case_id": answer.case_id,
                "segment": segments.get(answer.case_id),
                "repeat": answer.repeat,
                "position": position,
                "margin_nats": margin,
                "is_near_tie": margin <= tie,
                "engine_text": _text(inputs, answer),
                "standalone_text": inputs.task.standalone.get(answer.case_id),
                "engine_token_id": answer.token_ids[position],
                "standalone_token_id": inputs.rows[answer.item].argmax_ids[position],
                "equality": _equality(tasks.get(answer.case_id)),
            }
        )
    return sorted(rows, key=lambda row: (-row["margin_nats"], row["case_id"]))


def _text(inputs: GateInputs, answer: CandidateAnswer) -> str:
    texts = inputs.task.engine.get(answer.case_id, ())
    return texts[answer.repeat] if answer.repeat < len(texts) else answer.text


def _answers(
    answers: Sequence[CandidateAnswer],
    inputs: GateInputs,
    numbers: Mapping[tuple[str, int], AnswerNumbers],
) -> Iterator[dict[str, Any]]:
    first: dict[tuple[int, ...], int] = {}
    for answer in answers:
        row = {
            "repeat": answer.repeat,
            "engine_logprobs": _rounded(answer.logprobs),
            "numeric": asdict(numbers[answer.case_id, answer.repeat]),
        }
        if answer.token_ids in first:
            yield {**row, "same_tokens_as_repeat": first[answer.token_ids]}
            continue
        first[answer.token_ids] = answer.repeat
        alone = inputs.rows[answer.item]
        yield {
            **row,
            "token_ids": list(answer.token_ids),
            "text": _text(inputs, answer),
            "standalone_logprobs": _rounded(alone.token_logprobs),
            "base_logprobs": None
            if alone.base_token_logprobs is None
            else _rounded(alone.base_token_logprobs),
            "standalone_argmax": list(alone.argmax_ids),
        }


def _scores(task: CaseTask | None) -> dict[str, Any]:
    if task is None:
        return {"engine": [], "standalone": None, "live": None}
    return {
        "engine": [score.to_json() for score in task.engine],
        "standalone": task.standalone.to_json() if task.standalone else None,
        "live": task.live.to_json() if task.live else None,
    }


def _equality(task: CaseTask | None) -> str | None:
    return task.equality.value if task is not None and task.equality is not None else None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
