"""Asks one judge: any endpoint with OpenAI's chat completions. Knows nothing of cases or verdicts.

JudgeCallError
├── JudgeUnreachable        no answer, or "not now", after every try: no vote
└── JudgeRefused            the endpoint turns us away (key, model, address); carries the status

An answer in another form than the one asked for is no error but an invalid choice: it counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from adapters.parity.judge_prompt import MAX_ANSWER_TOKENS, Choice, read_choice

_NOT_NOW = frozenset({408, 429, 500, 502, 503, 504, 529})
_NOT_THIS = frozenset({400, 413, 422})
"""The endpoint cannot take this one question, as when it is longer than its context."""
_PAUSES = (1.0, 5.0)
"""Seconds between tries; arbitrary, to outlast a restart of one replica."""
_LONGEST_PAUSE = 30.0
_Key = TypeVar("_Key", bound=Hashable)

log = structlog.get_logger()


class JudgeCallError(Exception):
    """A judge that could not be asked; the text has neither its address's path nor its key."""

    code = "judge_call_failed"

    def __init__(self, *, judge: str, detail: str) -> None:
        self.judge, self.detail = judge, detail
        super().__init__(detail)


class JudgeUnreachable(JudgeCallError):
    """No answer, or "not now", after every try."""

    code = "judge_unreachable"


class JudgeRefused(JudgeCallError):
    """The endpoint answers that it will not be asked: wrong key, model or address."""

    code = "judge_refused"

    def __init__(self, *, judge: str, status: int) -> None:
        self.status = status
        super().__init__(judge=judge, detail=f"it answered with status {status}")


@dataclass(frozen=True, slots=True)
class JudgeEndpoint:
    """One configured judge."""

    name: str
    url: str
    """As OpenAI's clients take it, with its `/v1`."""
    model: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Host and port: all of the address that a report has."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2]


class JudgeClient:
    """An async context manager; owns its connections."""

    def __init__(
        self,
        endpoint: JudgeEndpoint,
        *,
        concurrency: int = 4,
        timeout_seconds: float = 60.0,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        """Nothing is sent yet. `pauses`: seconds before each further try of one question."""
        self._endpoint, self._pauses = endpoint, tuple(pauses)
        self._concurrency = max(1, concurrency)
        headers = {"Content-Type": "application/json"}
        if endpoint.api_key is not None:
            headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=10.0),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    async def choose(self, messages: Sequence[Mapping[str, str]]) -> Choice:
        """What the judge chooses; `INVALID` where it does not say so in the form asked for.

        Raises:
            JudgeUnreachable: no answer, or "not now", after every try.
            JudgeRefused: another error status.
        """
        response = await self._post(
            {
                "model": self._endpoint.model,
                "messages": [dict(message) for message in messages],
                "temperature": 0,
                "max_tokens": MAX_ANSWER_TOKENS,
            }
        )
        if response.status_code in _NOT_THIS:
            log.warning(
                "judge cannot be asked this",
                judge=self._endpoint.name,
                status=response.status_code,
                answer=response.text[:200],
            )
            return Choice.INVALID
        if response.status_code != httpx.codes.OK:
            raise JudgeRefused(judge=self._endpoint.name, status=response.status_code)
        return _read(response.content)

    async def choose_all(
        self,
        asked: Mapping[_Key, Sequence[Mapping[str, str]]],
        *,
        on_answer: Callable[[], None] | None = None,
    ) -> dict[_Key, Choice]:
        """Ask everything, a few at a time; the first failure ends it and is raised.

        Raises:
            JudgeCallError: see `choose`.
        """
        answers: dict[_Key, Choice] = {}
        queue = iter(asked.items())

        async def work() -> None:
            for key, messages in queue:
                answers[key] = await self.choose(messages)
                if on_answer is not None:
                    on_answer()

        workers = [asyncio.ensure_future(work()) for _ in range(self._concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return answers

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The first answer that is not "not now"."""
        # ASCII: a suite may hold half of a surrogate pair, which UTF-8 cannot say.
        content = json.dumps(body).encode()
        url = self._endpoint.url.rstrip("/") + "/chat/completions"
        detail = ""
        for pause in (*self._pauses, None):
            wait = pause
            try:
                response = await self._http.post(url, content=content)
            except httpx.TransportError as exc:
                detail = f"it does not answer ({type(exc).__name__})"
            else:
                if response.status_code not in _NOT_NOW:
                    return response
                detail = f"it answers with status {response.status_code}"
                if pause is not None:
                    wait = max(pause, _asked_pause(response))
            if wait is not None:
                await asyncio.sleep(wait)
        raise JudgeUnreachable(judge=self._endpoint.name, detail=detail)


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


def _read(content: bytes) -> Choice:
    try:
        body = msgspec.json.decode(content, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Choice.INVALID
    text = body.choices[0].message.content if body.choices else None
    return Choice.INVALID if text is None else read_choice(text)


def _asked_pause(response: httpx.Response) -> float:
    """Seconds that the endpoint asks us to wait, bounded; 0 where it says nothing readable."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_PAUSE) if value.isascii() and value.isdigit() else 0.0
