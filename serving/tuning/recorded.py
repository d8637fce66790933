"""A load as it was recorded: the access traces of one or more engines, made into a shape.

A trace has times, adapters and token counts, and no content; docs/access-trace.md describes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from serving.tuning.load_shape import Arrival, Shape

LONG_FROM = 512
"""Prompt tokens from which a request counts as "long". Arbitrary: above most chat turns."""


class TraceInvalid(ValueError):
    """A trace that cannot be used; `source` and `problem` say where and why."""

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"access trace: {source}: {problem}")


class TraceLine(msgspec.Struct, frozen=True):
    """One event, as a line of the controller's `GET /v1/engines/{id}/trace` has it."""

    position: int
    at: float
    kind: Literal["admitted", "finished"]
    adapter: str
    request: int
    prompt_tokens: int
    completion_tokens: int
    is_gate: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded load, and what of the traces is not in it."""

    shape: Shape
    adapters: tuple[str, ...]
    """`acme/support@3` by the number that it has in the shape: the most asked for first."""
    started_at: float
    """Unix seconds of the first request."""
    n_gate: int
    """Requests of the parity gate: nobody's traffic."""
    n_unfinished: int
    """Admitted without an end in the trace: in flight when it was saved, or when an engine died."""
    n_empty: int
    """Ended without a prompt or an answer of at least one token: refused or failed."""

    @property
    def name(self) -> str:
        """The traces' names."""
        return self.shape.name

    @property
    def left_out(self) -> str:
        """`3 unfinished, 2 empty` requests of the window that the shape leaves out; or empty."""
        counts = {"gate": self.n_gate, "unfinished": self.n_unfinished, "empty": self.n_empty}
        return ", ".join(f"{n} {problem}" for problem, n in counts.items() if n)

    def draw(self, seed: int) -> Shape:
        """The shape, the same for every seed."""
        return self.shape


@dataclass(frozen=True, slots=True)
class _Request:
    at: float
    adapter: str
    n_prompt: int
    n_output: int


def read_recording(
    paths: Sequence[Path],
    *,
    since: float | None = None,
    until: float | None = None,
    speed: float = 1.0,
    long_from: int = LONG_FROM,
) -> Recording:
    """The load of the traces' files together; see `make_recording`.

    Raises:
        TraceInvalid: a file cannot be read, is torn, or no request is left.
    """
    traces = []
    for path in paths:
        try:
            traces.append(parse_trace(path.read_bytes(), source=str(path)))
        except OSError as exc:
            raise TraceInvalid(str(path), str(exc.strerror or exc)) from exc
    name = " + ".join(path.stem for path in paths)
    return make_recording(
        traces, name=name, since=since, until=until, speed=speed, long_from=long_from
    )


def parse_trace(content: bytes, *, source: str) -> list[TraceLine]:
    """The events of one file.

    Raises:
        TraceInvalid: a line is no event, or the events are not in one engine's order.
    """
    decoder = msgspec.json.Decoder(TraceLine)
    if content and not content.endswith(b"\n"):
        n_lines = content.count(b"\n") + 1
        raise TraceInvalid(
            source, f"line {n_lines}, its last, is cut off: save it again, or delete that line"
        )
    events: list[TraceLine] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            event = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise TraceInvalid(
                source, f"line {number}: {exc}: save it with `loraplane capacity trace`"
            ) from exc
        if events and event.position <= events[-1].position:
            raise TraceInvalid(
                source,
                f"line {number}: position {event.position} comes after "
                f"{events[-1].position}: give each engine's trace as a file of its own",
            )
        events.append(event)
    return events


def make_recording(
    traces: Iterable[Sequence[TraceLine]],
    *,
    name: str = "recorded",
    since: float | None = None,
    until: float | None = None,
    speed: float = 1.0,
    long_from: int = LONG_FROM,
) -> Recording:
    """The requests that were admitted from `since` on and before `until` (Unix seconds).

    Pure. A request is due when it was admitted, seconds after the first one; `speed` 2 offers the
    same requests in half the time. An aborted one has the tokens that were made until then.

    Raises:
        TraceInvalid: no request is left.
    """
    requests: list[_Request] = []
    left_out: Counter[str] = Counter()
    for events in traces:
        ends = {event.request: event for event in events if event.kind == "finished"}
        for event in events:
            if event.kind != "admitted" or not _is_within(event.at, since, until):
                continue
            end = ends.get(event.position)
            problem = _why_not(event, end)
            if end is None or problem is not None:
                left_out[problem or "unfinished"] += 1
                continue
            requests.append(
                _Request(event.at, event.adapter, end.prompt_tokens, end.completion_tokens)
            )
    if not requests:
        raise TraceInvalid(name, f"no request is left of it: {_shown(left_out)}")
    requests.sort(key=lambda request: request.at)
    adapters = _by_popularity(requests)
    return Recording(
        shape=Shape(name, _arrivals(requests, adapters, speed=speed, long_from=long_from)),
        adapters=adapters,
        started_at=requests[0].at,
        n_gate=left_out["gate"],
        n_unfinished=left_out["unfinished"],
        n_empty=left_out["empty"],
    )


def parse_when(text: str) -> float:
    """Unix seconds, from such a number or an ISO 8601 time; UTC where it has no zone.

    Raises:
        ValueError: neither.
    """
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_within(at: float, since: float | None, until: float | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def _why_not(event: TraceLine, end: TraceLine | None) -> str | None:
    if event.is_gate:
        return "gate"
    if end is None:
        return "unfinished"
    return "empty" if min(end.prompt_tokens, end.completion_tokens) < 1 else None


def _shown(left_out: Counter[str]) -> str:
    if not left_out:
        return "it has none in that window"
    return ", ".join(f"{n} {problem}" for problem, n in sorted(left_out.items()))


def _by_popularity(requests: Sequence[_Request]) -> tuple[str, ...]:
    """By falling number of requests; of equals, by name."""
    counts = Counter(request.adapter for request in requests)
    return tuple(sorted(counts, key=lambda adapter: (-counts[adapter], adapter)))


def _arrivals(
    requests: Sequence[_Request], adapters: Sequence[str], *, speed: float, long_from: int
) -> tuple[Arrival, ...]:
    number_of = {adapter: number for number, adapter in enumerate(adapters)}
    first = requests[0].at
    return tuple(
        Arrival(
            at=(request.at - first) / speed,
            n_prompt=request.n_prompt,
            n_output=request.n_output,
            adapter=number_of[request.adapter],
            kind="long" if request.n_prompt >= long_from else "short",
        )
        for request in requests
    )
