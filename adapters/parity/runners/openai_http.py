"""One deployment over HTTP: bounded concurrency, timeouts, and its failures as typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

import httpx
import msgspec

from adapters.errors import RunnerAnswerInvalid, RunnerRefused, RunnerUnreachable
from adapters.parity.runners.protocol import OnProgress

_NOT_NOW = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that say nothing about the request: worth another try."""
_CONNECT_SECONDS = 5.0
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Deployment:
    """An async context manager; owns its connections."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str | None = None,
        concurrency: int = 4,
        timeout_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.answered_as: str | None = None
        """The name under which the deployment answers; None before its first answer."""
        self._model, self._concurrency = model, max(1, concurrency)
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    async def is_ready(self) -> bool:
        """Whether it lists its models; False while nobody answers."""
        try:
            return (await self._http.get("/v1/models")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def post(self, path: str, body: dict[str, Any], *, case_id: str | None) -> Any:
        """The JSON answer to a request for this model.

        Raises:
            RunnerUnreachable: no answer, or "not now".
            RunnerRefused: another error status.
            RunnerAnswerInvalid: not JSON, or from another model than the answers before.
        """
        try:
            response = await self._http.post(path, json={"model": self._model, **body})
        except httpx.TransportError as exc:
            raise RunnerUnreachable(url=self.url, reason=repr(exc)) from exc
        if response.status_code in _NOT_NOW:
            raise RunnerUnreachable(url=self.url, reason=f"status {response.status_code}")
        if response.status_code != httpx.codes.OK:
            raise RunnerRefused(
                url=self.url,
                status=response.status_code,
                case_id=case_id,
                reason=_reason(response.content),
            )
        return self._checked(response.content, case_id)

    async def for_all(
        self,
        ask: Callable[[_Item], Awaitable[_Answer]],
        items: Sequence[_Item],
        *,
        on_progress: OnProgress | None = None,
    ) -> list[_Answer]:
        """Ask for every item, at most `concurrency` at a time; the first failure ends all."""
        answers: dict[int, _Answer] = {}
        queue = iter(enumerate(items))

        async def work() -> None:
            for index, item in queue:
                answers[index] = await ask(item)
                if on_progress is not None:
                    on_progress(len(answers), len(items))

        workers = [asyncio.ensure_future(work()) for _ in range(self._concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [answers[index] for index in range(len(items))]

    def _checked(self, content: bytes, case_id: str | None) -> Any:
        try:
            body = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise RunnerAnswerInvalid(url=self.url, case_id=case_id, problem=str(exc)) from exc
        answered_as = body.get("model") if isinstance(body, dict) else None
        if not isinstance(answered_as, str):
            problem = "it names no model"
            raise RunnerAnswerInvalid(url=self.url, case_id=case_id, problem=problem)
        # An alias may name a dated model; that is fine as long as it stays the same one.
        if self.answered_as not in (None, answered_as):
            problem = f"answered as {answered_as} after {self.answered_as}: two models"
            raise RunnerAnswerInvalid(url=self.url, case_id=case_id, problem=problem)
        self.answered_as = answered_as
        return body


def _reason(content: bytes) -> str | None:
    """What the server says of itself, for a person to read; nothing is decided on it."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return None if message is None else str(message)[:500]
