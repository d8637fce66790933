"""Offers a load shape to a server that speaks OpenAI's API, open loop, and times each answer.

Open loop: each request is sent when the shape says, however many are still unanswered, as people
would. Nothing queues in here: there is no limit on connections, and each sample has both when it
was due and when it was sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal
from urllib.parse import urlsplit

from serving.tuning.connection import ConnectionLost, Connections, Exchange, Origin
from serving.tuning.content import prompt_tokens, prompt_words
from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult, Sample
from serving.tuning.stream import StreamReader

_ERROR_BYTES = 300
"""That are kept of a refusal, to tell one from another."""
_PORTS = {"http": 80, "https": 443}


class TargetInvalid(ValueError):
    """A target that cannot be asked; the message names the fix."""


@dataclass(frozen=True, slots=True)
class Model:
    """A name that the server takes as `model`, and the API key for it."""

    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask: the models are in the order of the shape's adapter numbers."""

    url: str
    """Without `/v1`."""
    models: tuple[Model, ...]
    prompts: Literal["tokens", "words"] = "tokens"
    """tokens: ids, of exact length, as vLLM takes them; words: text, for any server."""
    vocabulary: int = 1000
    """Token ids are below it; at most the model's vocabulary."""
    api: Literal["completions", "chat"] = "completions"
    ignore_eos: bool = True
    """Ask for answers of exact length, by a field of vLLM's own that other servers may refuse."""
    timeout_seconds: float = 300.0
    """A request that takes longer, from its sending to its end, has failed."""

    def __post_init__(self) -> None:
        if not self.models:
            raise TargetInvalid("the target has no model: name at least one")
        if self.api == "chat" and self.prompts == "tokens":
            raise TargetInvalid("chat takes no token ids: use prompts in words")
        if self.vocabulary < 2:
            raise TargetInvalid(f"a vocabulary of {self.vocabulary} makes no distinct prompts")
        for model in self.models:
            if model.key is not None and not (model.key.isascii() and model.key.isprintable()):
                raise TargetInvalid(f"the key of {model.name} has characters that no header takes")
        self.origin  # noqa: B018 - its errors belong here

    @property
    def origin(self) -> Origin:
        """Host and port of `url`."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as exc:
            raise TargetInvalid(f"{self.url}: {exc}") from exc
        if not (self.url.isascii() and self.url.isprintable()) or " " in self.url:
            raise TargetInvalid(f"{self.url!r} has characters that no address takes: encode them")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise TargetInvalid(f"{self.url!r} is no address: write it as http://HOST:PORT")
        return Origin(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is."""

    seconds: float
    n_requests: int
    n_sent: int
    n_done: int
    n_failed: int

    @property
    def n_in_flight(self) -> int:
        """Sent and not yet answered."""
        return self.n_sent - self.n_done


async def run_load(
    target: Target,
    shape: Shape,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> LoadResult:
    """Send each request when it is due, wait for all answers; one sample per request.

    A request that fails, times out or is cut off is a sample with an error. `seed` draws the
    prompts: the same seed on the same server meets its prefix cache.

    Raises:
        TargetInvalid: the shape has more adapters than the target has models.
    """
    if shape.n_adapters > len(target.models):
        raise TargetInvalid(
            f"the shape {shape.name} asks for {shape.n_adapters} adapters, and the target has "
            f"{len(target.models)} models: name more, or draw the shape with fewer"
        )
    connections = Connections(target.origin)
    try:
        return await _Load(connections, target, shape, on_progress, seed).run()
    finally:
        connections.close()


@dataclass
class _Load:
    connections: Connections
    target: Target
    shape: Shape
    on_progress: Callable[[Progress], None] | None
    seed: int
    started: float = 0.0
    n_sent: int = 0
    n_failed: int = 0
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> LoadResult:
        arrivals = self.shape.arrivals
        # Each before the wait, the first before the clock: its time is not added to the request.
        bodies = (
            request_body(self.target, arrival, index=index, seed=self.seed)
            for index, arrival in enumerate(arrivals)
        )
        first = list(islice(bodies, 1))
        self.started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for arrival, body in zip(arrivals, chain(first, bodies), strict=True):
                await asyncio.sleep(max(0.0, arrival.at - self.now()))
                tasks.create_task(self.ask(arrival, body))
        return LoadResult(tuple(sorted(self.samples, key=lambda sample: sample.due_at)))

    def now(self) -> float:
        return time.perf_counter() - self.started

    async def ask(self, arrival: Arrival, body: bytes) -> None:
        self.n_sent += 1
        self.tell()
        sent_at = self.now()
        reader, refusal = StreamReader(chat=self.target.api == "chat"), bytearray()

        def take(status: int, piece: bytes) -> None:
            if _is_success(status):
                reader.feed(piece, self.now())
            else:
                refusal.extend(piece)

        exchange = Exchange(self.path, self.headers(arrival), body, take)
        try:
            async with asyncio.timeout(self.target.timeout_seconds):
                await self.connections.post(exchange)
            error = reader.problem
            if not _is_success(exchange.status):
                error = f"HTTP {exchange.status}: {refusal[:_ERROR_BYTES].decode(errors='replace')}"
        except TimeoutError:
            error = f"no end after {self.target.timeout_seconds:g} s"
        except (ConnectionLost, OSError) as exc:
            error = f"{type(exc).__name__}: {exc}"
        self.n_failed += error is not None
        self.samples.append(self.sample(arrival, sent_at, reader, exchange.status, error))
        self.tell()

    @property
    def path(self) -> str:
        prefix = urlsplit(self.target.url).path.rstrip("/")
        return f"{prefix}/v1/{'chat/completions' if self.target.api == 'chat' else 'completions'}"

    def headers(self, arrival: Arrival) -> list[tuple[str, str]]:
        key = self.target.models[arrival.adapter].key
        bearer = [("Authorization", f"Bearer {key}")] if key else []
        return [("Content-Type", "application/json"), ("Accept", "text/event-stream"), *bearer]

    def sample(
        self, arrival: Arrival, sent_at: float, reader: StreamReader, status: int, error: str | None
    ) -> Sample:
        return Sample(
            kind=arrival.kind,
            adapter=arrival.adapter,
            due_at=arrival.at,
            sent_at=sent_at,
            first_at=reader.token_at[0] if reader.token_at else None,
            token_at=tuple(reader.token_at),
            ended_at=self.now(),
            status=status,
            n_prompt=arrival.n_prompt if reader.n_prompt is None else reader.n_prompt,
            n_output=len(reader.token_at) if reader.n_output is None else reader.n_output,
            error=error,
        )

    def tell(self) -> None:
        if self.on_progress is not None:
            n_requests, n_done = len(self.shape.arrivals), len(self.samples)
            self.on_progress(Progress(self.now(), n_requests, self.n_sent, n_done, self.n_failed))


def request_body(target: Target, arrival: Arrival, *, index: int, seed: int) -> bytes:
    """The JSON of one request, greedy, streamed, with the usage in its last piece."""
    body: dict[str, Any] = {
        "model": target.models[arrival.adapter].name,
        "max_tokens": arrival.n_output,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if target.ignore_eos:
        body["ignore_eos"] = True
    if target.prompts == "tokens":
        body["prompt"] = prompt_tokens(
            arrival, index=index, seed=seed, vocabulary=target.vocabulary
        )
    else:
        words = prompt_words(arrival, index=index, seed=seed)
        if target.api == "chat":
            body["messages"] = [{"role": "user", "content": words}]
        else:
            body["prompt"] = words
    return json.dumps(body).encode()


def _is_success(status: int) -> bool:
    return 200 <= status < 300
