"""A server of OpenAI's streaming API on a real socket; a model's name says how it behaves.

`plain` answers; `gather` holds every answer back until `n_gathered` requests are there at once;
`refuse` answers 503; `cut` closes the connection within its answer; `hang` never ends one; `error`
says within the stream that it failed. Chat answers begin with an event without a token, as real
ones do.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

KEY = "the-key"


@dataclass
class OpenAiServer:
    """What it was asked, and where it is."""

    n_gathered: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI has it."""
        if scope["method"] == "GET":
            models = {"data": [{"id": "plain"}, {"id": "second"}]}
            await _answer(send, 200, json.dumps(models).encode(), kind=b"application/json")
            return
        body = json.loads(await _read(receive))
        self.bodies.append(body)
        self.paths.append(scope["path"])
        self.keys.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        if body["model"] == "refuse":
            await _answer(send, 503, b"no slot is free", kind=b"text/plain")
            return
        if body["model"] == "gather":
            await self._gather()
        await _start(send, 200, b"text/event-stream")
        if body["model"] == "error":
            await _event(send, {"error": {"message": "the engine died"}})
        elif body["model"] in {"cut", "hang"}:
            await _event(send, _piece(body, None))
            await asyncio.sleep(3600 if body["model"] == "hang" else 0)
            raise ConnectionAbortedError
        else:
            await _tokens(send, body, is_chat="chat" in scope["path"])
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _gather(self) -> None:
        here = asyncio.get_running_loop().create_future()
        self._waiting.append(here)
        if len(self._waiting) == self.n_gathered:
            for one in self._waiting:
                one.set_result(None)
        await here


@contextmanager
def openai_server() -> Iterator[OpenAiServer]:
    """It runs in a thread of its own, so that nobody's event loop holds up the other's."""
    served = OpenAiServer()
    config = uvicorn.Config(
        served, port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    with config.bind_socket() as socket:
        served.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        # From now on connections wait for the thread, however late it is.
        socket.listen(1024)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join(30)


async def _tokens(send: Any, body: dict[str, Any], *, is_chat: bool) -> None:
    n_output = body["max_tokens"]
    if is_chat:
        await _event(send, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    for number in range(n_output):
        await _event(send, _piece(body, "length" if number == n_output - 1 else None))
    prompt = body.get("prompt") or body["messages"][0]["content"].split()
    usage = {"prompt_tokens": len(prompt), "completion_tokens": n_output}
    await _event(send, {"choices": [], "usage": usage})


def _piece(body: dict[str, Any], reason: str | None) -> dict[str, Any]:
    content = {"delta": {"content": "a"}} if "messages" in body else {"text": "a"}
    return {"choices": [{"index": 0, "finish_reason": reason, **content}]}


async def _read(receive: Any) -> bytes:
    content, more = b"", True
    while more:
        message = await receive()
        content, more = content + message["body"], message.get("more_body", False)
    return content


async def _event(send: Any, value: Any) -> None:
    content = b"data: " + json.dumps(value).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _start(send: Any, status: int, kind: bytes) -> None:
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Any, status: int, content: bytes, *, kind: bytes) -> None:
    await _start(send, status, kind)
    await send({"type": "http.response.body", "body": content})
