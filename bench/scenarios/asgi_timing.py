"""Two ASGI layers around our middleware that time what lies between them, in the engine process.

`Outer` sees a request before the middleware and `Inner` after it; the difference, on the way in and
on the way out, is what the middleware adds. `Inner` also times the runtime's `admit`, which vLLM's
handler calls. Rows are appended to the file of `LORAPLANE_BENCH_TIMES`, in nanoseconds.
"""

from __future__ import annotations

import json
import os
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_marks: ContextVar[dict[str, int]] = ContextVar("marks")


class Outer:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._rows: list[dict[str, int]] = []
        self._path = Path(os.environ["LORAPLANE_BENCH_TIMES"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        marks: dict[str, int] = {"admit": 0}
        token = _marks.set(marks)
        started = time.perf_counter_ns()
        await self._app(scope, receive, send)
        ended = time.perf_counter_ns()
        _marks.reset(token)
        if "enter" in marks:
            middleware = (marks["enter"] - started) + (ended - marks["leave"])
            self._rows.append({"middleware": middleware, "admit": marks["admit"]})
        if len(self._rows) >= 100:
            with self._path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in self._rows)
            self._rows.clear()


class Inner:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._is_hooked = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._is_hooked:
            self._is_hooked = _time_admit()
        marks = _marks.get(None)
        if marks is not None:
            marks["enter"] = time.perf_counter_ns()
        await self._app(scope, receive, send)
        if marks is not None:
            marks["leave"] = time.perf_counter_ns()


def _time_admit() -> bool:
    from serving.engine.runtime import get_runtime

    runtime: Any = get_runtime()
    if runtime is None:
        return False
    upstream = runtime.admit

    async def admit(*args: Any) -> None:
        started = time.perf_counter_ns()
        await upstream(*args)
        if (marks := _marks.get(None)) is not None:
            marks["admit"] = time.perf_counter_ns() - started

    runtime.admit = admit
    return True
