"""The gate's client of an engine: the real OpenAI route, with the gate's own key.

Plans the mixed traffic (pure) and sends it (bounded). Knows nothing of rows, verdicts or torch.
An engine that does not answer is `EngineUnreachable`, never a wrong answer.

EngineCallError
├── EngineUnreachable       no answer, or "not now" (429, 503...): says nothing about the model
├── EngineRefused           the engine answered with another error; carries status and code
├── OtherModelAnswered      the answer names another model than the one that was asked
├── AnswerMalformed         200 without the token ids or logprobs that the gate needs
└── AnswerNotFinite         a logprob that no finite computation gives
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
import msgspec

from serving.controller.gate_pace import TENANTS_HEADER, Pace

_NOT_NOW = frozenset({408, 429, 502, 503, 504})


class EngineCallError(Exception):
    """A request of the gate that gave no usable answer; `code` is a stable slug."""

    code = "engine_call_failed"

    def __init__(self, *, url: str, model: str, detail: str) -> None:
        self.url, self.model, self.detail = url, model, detail
        super().__init__(f"{url} asked for {model}: {detail}")


class EngineUnreachable(EngineCallError):
    """No answer, or "not now"; says nothing about the model."""

    code = "engine_unreachable"


class EngineRefused(EngineCallError):
    """The engine answered with an error of its own."""

    code = "engine_refused"

    def __init__(self, *, url: str, model: str, status: int, engine_code: str | None) -> None:
        self.status, self.engine_code = status, engine_code
        super().__init__(url=url, model=model, detail=f"status {status}, code {engine_code}")


class OtherModelAnswered(EngineCallError):
    """The answer names another model than the one that was asked."""

    code = "other_model_answered"


class AnswerMalformed(EngineCallError):
    """A 200 without token ids, or without one logprob for each."""

    code = "answer_malformed"


class AnswerNotFinite(EngineCallError):
    """A logprob that no finite computation gives: NaN, infinite, or the engine's mark for it."""

    code = "answer_not_finite"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One case as the engine sees it: token ids, so that both sides read exactly the same."""

    case_id: str
    token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer: token ids (end-of-sequence included) and their logprobs, in nats."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of the mix; `repeat` is None for a neighbour, whose answer is dropped."""

    model: str
    prompt: Prompt
    repeat: int | None


def plan_traffic(
    prompts: Sequence[Prompt], *, model: str, repeats: int, neighbours: Sequence[str], seed: int = 0
) -> list[PlannedRequest]:
    """The order in which the gate asks: every prompt once per repeat, each repeat in another order.

    Before each of the model's requests stands one of a neighbour (base model or live adapter, in
    turn), so that batches are mixed and every repeat meets other batch mates. Neighbours are asked
    for at most eight tokens: they are there for company, not for answers.
    """
    order = random.Random(seed)  # noqa: S311 - a reproducible shuffle, no secret
    planned: list[PlannedRequest] = []
    for repeat in range(repeats):
        shuffled = list(prompts)
        if repeat:
            order.shuffle(shuffled)
        for position, prompt in enumerate(shuffled):
            if neighbours:
                mate = prompts[(position + repeat + 1) % len(prompts)]
                company = Prompt(mate.case_id, mate.token_ids, min(8, mate.max_tokens))
                neighbour = neighbours[(position + repeat) % len(neighbours)]
                planned.append(PlannedRequest(neighbour, company, repeat=None))
            planned.append(PlannedRequest(model, prompt, repeat=repeat))
    return planned


class GateClient:
    """Asks one engine for greedy completions. An async context manager; owns its connections."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        timeout_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._pace = pace or Pace(1)
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    async def complete(self, *, model: str, prompt: Prompt) -> Answer:
        """The greedy answer of `model` to `prompt`.

        Raises:
            EngineUnreachable: no answer, or "not now".
            EngineRefused: another error status.
            OtherModelAnswered: the answer names another model.
            AnswerMalformed: no token ids, or not one logprob for each.
            AnswerNotFinite: a logprob is not finite.
        """
        body = {
            "model": model,
            "prompt": list(prompt.token_ids),
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "logprobs": 1,
            "return_token_ids": True,
        }
        try:
            response = await self._http.post("/v1/completions", json=body)
        except httpx.TransportError as exc:
            raise EngineUnreachable(url=self._url, model=model, detail=repr(exc)) from exc
        self._pace.observe(response.headers.get(TENANTS_HEADER))
        if response.status_code in _NOT_NOW:
            detail = f"status {response.status_code}"
            raise EngineUnreachable(url=self._url, model=model, detail=detail)
        if response.status_code != httpx.codes.OK:
            raise EngineRefused(
                url=self._url,
                model=model,
                status=response.status_code,
                engine_code=_error_code(response.content),
            )
        return self._parse(response.content, model=model)

    async def answer_all(
        self,
        planned: Iterable[PlannedRequest],
        *,
        on_answer: Callable[[], None] | None = None,
    ) -> dict[int, dict[str, Answer]]:
        """Send planned traffic at the client's pace; answers by repeat and case id.

        Requests for company are left out while tenants give enough of it. A neighbour's failure is
        ignored unless the engine itself is unreachable: a live adapter may be retired meanwhile.
        The model's own first failure ends everything and is raised.

        Raises:
            EngineCallError: see `complete`.
        """
        answers: dict[int, dict[str, Answer]] = {}
        queue = iter(planned)

        async def work(index: int) -> None:
            # All workers draw from one iterator: the order of sending is the planned order.
            while True:
                await self._pace.turn(index)
                request = next(queue, None)
                if request is None:
                    self._pace.end()
                    return
                if request.repeat is None and not self._pace.needs_company:
                    continue
                await self._answer_one(request, answers)
                if request.repeat is not None and on_answer is not None:
                    on_answer()

        workers = [asyncio.ensure_future(work(index)) for index in range(self._pace.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return answers

    async def _answer_one(
        self, request: PlannedRequest, answers: dict[int, dict[str, Answer]]
    ) -> None:
        if request.repeat is None:
            try:
                await self.complete(model=request.model, prompt=request.prompt)
            except EngineUnreachable:
                raise
            except EngineCallError:
                return
            return
        answer = await self.complete(model=request.model, prompt=request.prompt)
        answers.setdefault(request.repeat, {})[request.prompt.case_id] = answer

    def _parse(self, content: bytes, *, model: str) -> Answer:
        try:
            body = msgspec.json.decode(content, type=_Completion)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise AnswerMalformed(url=self._url, model=model, detail=str(exc)) from exc
        if body.model != model:
            detail = f"answered as {body.model}"
            raise OtherModelAnswered(url=self._url, model=model, detail=detail)
        choice = body.choices[0] if body.choices else None
        if choice is None or not choice.token_ids or choice.logprobs is None:
            raise AnswerMalformed(url=self._url, model=model, detail="no token ids or logprobs")
        logprobs = [value for value in choice.logprobs.token_logprobs if value is not None]
        if len(logprobs) != len(choice.token_ids):
            raise AnswerMalformed(
                url=self._url, model=model, detail="not one logprob for each token"
            )
        if not all(map(_is_finite, logprobs)):
            raise AnswerNotFinite(url=self._url, model=model, detail="a logprob is not finite")
        return Answer(tuple(choice.token_ids), tuple(logprobs), choice.text)


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None]


class _Choice(msgspec.Struct):
    text: str = ""
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None


class _Completion(msgspec.Struct):
    model: str
    choices: list[_Choice]


def _is_finite(value: float) -> bool:
    # vLLM 0.32 writes -9999.0 where a logprob is -inf (openai/completion/serving.py).
    return math.isfinite(value) and value > -9999.0


def _error_code(content: bytes) -> str | None:
    try:
        body: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    error = body.get("error", body) if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return None if code is None else str(code)
