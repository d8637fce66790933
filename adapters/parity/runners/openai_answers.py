"""OpenAI responses -> our answers and rows. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from adapters.errors import RunnerAnswerInvalid
from adapters.parity.protocol import VerifyItem, VerifyRow
from adapters.parity.runners.protocol import StandaloneAnswer

_MINUS_INFINITY = -9999.0


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]


def read_answer(body: Any, *, case_id: str, url: str) -> StandaloneAnswer:
    """The first choice of a chat completion or a completion.

    Raises:
        RunnerAnswerInvalid: there is none.
    """
    try:
        choice = msgspec.convert(body, _Reply).choices[0]
    except (msgspec.ValidationError, IndexError) as exc:
        raise RunnerAnswerInvalid(url=url, case_id=case_id, problem=str(exc)) from exc
    message = choice.message
    text = choice.text if message is None else message.content or ""
    if text is None:
        raise RunnerAnswerInvalid(url=url, case_id=case_id, problem="neither message nor text")
    return StandaloneAnswer(
        case_id=case_id,
        text=text,
        tool_calls=(message.tool_calls or None) if message is not None else None,
        token_ids=None if choice.token_ids is None else tuple(choice.token_ids),
        is_cut=choice.finish_reason == "length",
    )


class _Logprob(msgspec.Struct):
    logprob: float | None
    rank: int | None = None


class _ReadChoice(msgspec.Struct):
    prompt_logprobs: list[dict[int, _Logprob] | None] | None = None


class _Read(msgspec.Struct):
    choices: list[_ReadChoice]


def read_prompt_logprobs(body: Any, item: VerifyItem) -> VerifyRow | None:
    """The row of `item` from vLLM's `prompt_logprobs`; None: the server gives none.

    Position i holds the token that stands there, and the most likely one, with rank 1.
    """
    try:
        choices = msgspec.convert(body, _Read, strict=False).choices
    except msgspec.ValidationError:
        return None
    given = choices[0].prompt_logprobs if choices else None
    n_prompt = len(item.prompt_token_ids)
    if given is None or len(given) != n_prompt + len(item.token_ids):
        return None
    best_ids, best, own = [], [], []
    for token, known in zip(item.token_ids, given[n_prompt:], strict=True):
        top = next(((i, v) for i, v in (known or {}).items() if v.rank == 1), None)
        if known is None or token not in known or top is None:
            return None
        # Of equally likely tokens the one that stands there counts as the choice.
        is_top = known[token].logprob == top[1].logprob
        best_ids.append(token if is_top else top[0])
        best.append(top[1].logprob)
        own.append(known[token].logprob)
    finite_best, finite_own = _finite(best), _finite(own)
    if len(finite_best) + len(finite_own) < 2 * len(item.token_ids):
        return VerifyRow(item.case_id, is_finite=False)
    return VerifyRow(item.case_id, True, tuple(best_ids), finite_best, finite_own)


def _finite(values: list[float | None]) -> tuple[float, ...]:
    # vLLM writes -9999.0 where a log probability is -inf: no finite computation gives that.
    return tuple(v for v in values if v is not None and math.isfinite(v) and v > _MINUS_INFINITY)
