"""The drain's verb where answers are lost: SIGTERM follows its end, so it must not end for one."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.cli import drain
from serving.cli.main import main
from tests.builders.snapshots import SECRET

LEAVING = {"state": "leaving", "in_flight": 2, "admits_for_seconds": 1.0}
EMPTY = {"state": "draining", "in_flight": 0, "admits_for_seconds": 0}
LOST, STALLED, BROKEN = "lost", "stalled", "broken"


class Engine(BaseHTTPRequestHandler):
    """Gives one answer of its server's list after the other, and the last one for ever."""

    server: Script

    def log_message(self, *_: Any) -> None:
        """Not into the tests' output."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer("POST")

    def _answer(self, method: str) -> None:
        script = self.server
        script.asked.append(method)
        answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
        if answer == STALLED:
            script.is_over.wait(30)
        if answer in (LOST, STALLED):
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        self.send_response(500 if answer == BROKEN else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Script(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Engine)
        self.answers: list[Any] = []
        self.asked: list[str] = []
        self.is_over = threading.Event()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    script = Script()
    monkeypatch.setenv("LORAPLANE_HOST", "127.0.0.1")
    monkeypatch.setenv("LORAPLANE_ENGINE_PORT", str(script.server_port))
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", SECRET)
    monkeypatch.setattr(drain, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(drain, "_GONE_SECONDS", 0.5)
    thread = threading.Thread(target=script.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield script
    script.is_over.set()
    script.shutdown()
    script.server_close()
    thread.join()


async def verb(*arguments: str) -> int:
    def run() -> int:
        try:
            main(["drain", *arguments])
        except SystemExit as exc:
            return int(exc.code or 0)
        return 0

    return await asyncio.to_thread(run)


async def test_lost_and_broken_answers_do_not_end_the_wait(engine: Script) -> None:
    engine.answers = [LEAVING, LOST, LEAVING, BROKEN, LOST, LOST, LEAVING, EMPTY]

    assert await verb() == 0

    assert engine.asked == ["POST"] + ["GET"] * 7


async def test_an_engine_that_answers_nobody_for_a_while_is_waited_for(
    engine: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_ANSWER_SECONDS", 0.3)
    engine.answers = [LEAVING, STALLED, STALLED, EMPTY]

    assert await verb() == 0


async def test_an_order_whose_answer_is_lost_is_given_again(engine: Script) -> None:
    engine.answers = [LOST, BROKEN, LEAVING, EMPTY]

    assert await verb() == 0

    assert engine.asked == ["POST", "POST", "POST", "GET"]


async def test_an_engine_that_is_silent_to_the_end_is_given_up_when_the_stated_time_is_over(
    engine: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.answers = [LEAVING, LOST]
    began = time.monotonic()

    assert await verb("--leave-seconds", "0.6", "--timeout", "0.8") == 3

    assert time.monotonic() - began >= 1.4
    assert "does not answer" in capsys.readouterr().err


async def test_an_engine_that_has_ended_is_not_waited_for(engine: Script) -> None:
    engine.answers = [LEAVING]
    draining = asyncio.create_task(verb())
    async with asyncio.timeout(30):
        while "GET" not in engine.asked:  # noqa: ASYNC110 - another thread's list
            await asyncio.sleep(0.01)

    engine.shutdown()
    engine.server_close()

    async with asyncio.timeout(30):
        assert await draining == 3
