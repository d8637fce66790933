"""Two ASGI layers that time, inside vLLM's API process, what lies between them and in its hooks.

`Outer` sees a request before our middleware and `Inner` after it: what is between, on the way in,
on the way out and at every message of the answer, is the middleware. `Inner` also times the five
functions of vLLM that we hook, whosever they are at that time: where they are vLLM's own, that is
what a request costs without us. `beside` is what our journal took since the row before, for which
no request waits. Rows go to the file of `LORAPLANE_BENCH_TIMES`, in nanoseconds, of requests that
were alone from start to end.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_FLUSH_ROWS = 25
HOOKED = (
    "check_model",
    "get_adapters",
    "add_request",
    "update_stats_from_output",
    "update_stats_from_finished",
)
BESIDE = "beside"
_now = time.perf_counter_ns
_current: dict[str, Any] | None = None
_n_inside = 0
_beside = 0


class Outer:
    """Opens a row, and closes it when the response has ended."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._rows: list[dict[str, Any]] = []
        self._path = Path(os.environ["LORAPLANE_BENCH_TIMES"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Time one request."""
        global _current, _n_inside
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        _n_inside += 1
        row = {"is_alone": _n_inside == 1, "at": time.time(), "sent": 0, "passed": 0}
        row.update(dict.fromkeys(HOOKED, 0))
        _current = row
        started = _now()
        await self._app(scope, receive, _timed_send(send, row, "sent"))
        ended = _now()
        row["is_alone"] = row["is_alone"] and _current is row
        _n_inside -= 1
        self._keep(row, started, ended)

    def _keep(self, row: dict[str, Any], started: int, ended: int) -> None:
        global _beside
        if row["is_alone"] and "enter" in row:
            around = row["enter"] - started + ended - row["leave"]
            kept = {"at": row["at"], "middleware": around + row["passed"] - row["sent"]}
            self._rows.append({**kept, **{name: row[name] for name in HOOKED}, BESIDE: _beside})
        _beside = 0
        if len(self._rows) >= _FLUSH_ROWS:
            with self._path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in self._rows)
            self._rows.clear()


class Inner:
    """Marks when the application itself begins and ends."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._is_hooked = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Mark one request."""
        row = _current
        if row is None:
            await self._app(scope, receive, send)
            return
        if not self._is_hooked:
            _time_hooks(scope["app"].state.engine_client.output_processor)
            _time_journal()
            self._is_hooked = True
        timed = _timed_send(send, row, "passed")
        row["enter"] = _now()
        await self._app(scope, receive, timed)
        row["leave"] = _now()


def _timed_send(send: Any, row: dict[str, Any], name: str) -> Any:
    async def timed(message: Any) -> None:
        started = _now()
        await send(message)
        row[name] += _now() - started

    return timed


def _time_hooks(processor: Any) -> None:
    from vllm.entrypoints.serve.engine.serving import BaseServing

    served: Any = BaseServing
    served._check_model = _timed(served._check_model, "check_model")  # noqa: SLF001
    served._maybe_get_adapters = _timed(  # noqa: SLF001
        served._maybe_get_adapters,  # noqa: SLF001
        "get_adapters",
    )
    processor.add_request = _timed(processor.add_request, "add_request")
    for name in HOOKED[3:]:
        setattr(processor, f"_{name}", _timed(getattr(processor, f"_{name}"), name))


def _time_journal() -> None:
    try:
        from serving.engine.journal import Journal
    except ImportError:  # An earlier revision has none.
        return
    settle = Journal.settle

    def timed(journal: Journal) -> None:
        global _beside
        started = _now()
        settle(journal)
        _beside += _now() - started

    journal: Any = Journal
    journal.settle = timed


def _timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def add(started: int) -> None:
        if _current is not None:
            _current[name] += _now() - started

    def plain(*args: Any, **kwargs: Any) -> Any:
        started = _now()
        try:
            return function(*args, **kwargs)
        finally:
            add(started)

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        started = _now()
        awaited: Awaitable[Any] = function(*args, **kwargs)
        try:
            return await awaited
        finally:
            add(started)

    return coroutine if inspect.iscoroutinefunction(function) else plain
