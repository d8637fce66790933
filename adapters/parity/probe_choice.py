"""Which answers an engine must give again each time it loads a version: the load probe. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.parity.gate_plan import GateInputs, Measurements
from adapters.parity.numeric import CandidateAnswer, resolution_of


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One prompt and the engine's own greedy answer to it."""

    prompt_token_ids: tuple[int, ...]
    expected_token_ids: tuple[int, ...]
    expected_logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ProbeChoice:
    """What an engine must answer again each time it loads the version."""

    cases: tuple[ProbeAnswer, ...]
    max_mean_delta_nats: float
    tie_margin_nats: float


def select_probe(
    inputs: GateInputs, measured: Measurements, *, n: int = 3, max_tokens: int = 16
) -> ProbeChoice:
    """The `n` cases in which the adapter differs most from the base, with the engine's answers.

    Only answers that every repeat gave and that hold finite numbers; at most `max_tokens` of each,
    since every load pays for them. The allowed difference is ten times the noise floor, but never
    more than half of the smallest chosen effect: a load without the adapter must not pass.
    """
    resolution = resolution_of(measured.dtype)
    stable = _stable_answers(inputs.answers, measured)
    effects = {a.case_id: _effect(inputs, a, max_tokens) for a in stable}
    chosen = sorted(stable, key=lambda a: (-effects[a.case_id], a.case_id))[:n]
    floor = measured.floor.totals.mean_delta_nats if measured.floor else None
    allowed = 10.0 * max(floor or 0.0, resolution.mean_delta_nats)
    visible = [effects[a.case_id] for a in chosen if effects[a.case_id] > 0.0]
    return ProbeChoice(
        cases=tuple(
            ProbeAnswer(a.prompt_token_ids, a.token_ids[:max_tokens], a.logprobs[:max_tokens])
            for a in chosen
        ),
        max_mean_delta_nats=min([allowed, *(effect / 2 for effect in visible)]),
        tie_margin_nats=resolution.tie_margin_nats,
    )


def _effect(inputs: GateInputs, answer: CandidateAnswer, max_tokens: int) -> float:
    """Mean |delta logprob| against the base over the tokens that the probe will keep."""
    row = inputs.rows[answer.item]
    pairs = list(zip(row.token_logprobs, row.base_token_logprobs or (), strict=False))[:max_tokens]
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else 0.0


def _stable_answers(
    answers: Sequence[CandidateAnswer], measured: Measurements
) -> list[CandidateAnswer]:
    by_case: dict[str, list[CandidateAnswer]] = {}
    for answer in answers:
        by_case.setdefault(answer.case_id, []).append(answer)
    finite = {item.case_id for item in measured.per_answer if item.is_finite}
    return [
        group[0]
        for case_id, group in by_case.items()
        if case_id in finite and group[0].token_ids and len({a.token_ids for a in group}) == 1
    ]
