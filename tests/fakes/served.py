"""An ASGI app on a real local socket: inside the test's own event loop, or in a thread."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

T = TypeVar("T")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The URL of `app` while the context lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        # The socket listens already, so that a client can connect before the server's first turn.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What an async context gives, while it lives in the event loop of a thread."""
    started: queue.Queue[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def live() -> None:
        stop = asyncio.Event()
        async with context as value:
            started.put((value, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    value, loop, stop = started.get(timeout=60)
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)
