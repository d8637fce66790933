"""The load probe: does a loaded version answer as it did when the gate passed it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from serving.contract import Probe, ProbeCase
from serving.engine.ports import EnginePort, GeneratedTokens

_FINITENESS_PROMPT = [1, 2, 3, 4, 5, 6, 7, 8]
"""Any ids that every vocabulary has; used where the gate recorded no cases."""
_FINITENESS_TOKENS = 4
NON_FINITE = "non_finite"


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why a version is not what the gate passed; `reason` is a stable slug."""

    reason: str
    detail: str


async def run_probe(port: EnginePort, name: str, probe: Probe | None) -> ProbeFailure | None:
    """Ask the engine and judge its answers; None when the version is proven.

    The caller holds a lease on the version.

    Raises:
        EngineUnavailable: the engine did not answer; says nothing about the version.
    """
    if probe is None or not probe.cases:
        answer = await port.generate(name, _FINITENESS_PROMPT, _FINITENESS_TOKENS)
        return None if answer.is_finite else _not_finite(0)
    for index, case in enumerate(probe.cases):
        answer = await port.generate(name, case.prompt_token_ids, len(case.expected_token_ids))
        failure = judge_case(probe, index, answer)
        if failure is not None:
            return failure
    return None


async def confirm_probe(port: EnginePort, name: str, probe: Probe | None) -> ProbeFailure | None:
    """Probe a version that answers requests; a mismatch counts when a second run has one too.

    The tolerance was measured in other batches than the one that a busy engine puts a probe in:
    one near miss is not worth an outage. A NaN counts at once. Raises as `run_probe`.
    """
    failure = await run_probe(port, name, probe)
    if failure is None or failure.reason == NON_FINITE:
        return failure
    return await run_probe(port, name, probe)


def judge_case(probe: Probe, index: int, answer: GeneratedTokens) -> ProbeFailure | None:
    """Compare one answer with what the gate recorded. Pure; see `contract.Probe` for the rule.

    Where the tokens part, the margin is the engine's between its best and second best token: no
    larger than the one between the two tokens in question.
    """
    case = probe.cases[index]
    if not answer.is_finite:
        return _not_finite(index)
    n_equal = _equal_prefix(case.expected_token_ids, answer.token_ids)
    if n_equal < len(case.expected_token_ids):
        if n_equal >= len(answer.token_ids):
            return ProbeFailure("probe_too_short", f"case {index}: {n_equal} tokens, no more")
        margin = answer.margins[n_equal]
        if margin > probe.tie_margin_nats:
            return ProbeFailure(
                "probe_tokens",
                f"case {index}: another token at {n_equal}, by a margin of {margin:.4g} nats",
            )
    return _judge_logprobs(probe, index, case, answer.logprobs[:n_equal])


def _judge_logprobs(
    probe: Probe, index: int, case: ProbeCase, logprobs: Sequence[float]
) -> ProbeFailure | None:
    if not logprobs:
        return None
    pairs = zip(logprobs, case.expected_logprobs, strict=False)
    mean_delta = fmean(abs(found - expected) for found, expected in pairs)
    if mean_delta <= probe.max_mean_delta_nats:
        return None
    return ProbeFailure(
        "probe_logprobs", f"case {index}: mean |delta logprob| {mean_delta:.4g} nats"
    )


def _equal_prefix(expected: Sequence[int], found: Sequence[int]) -> int:
    n_equal = 0
    for left, right in zip(expected, found, strict=False):
        if left != right:
            break
        n_equal += 1
    return n_equal


def _not_finite(index: int) -> ProbeFailure:
    return ProbeFailure(NON_FINITE, f"case {index}: the engine's logits hold a NaN or Inf")
