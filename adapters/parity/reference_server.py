"""The standalone model as a server for one client at a time, on a machine of its own.

    LORAPLANE_REFERENCE_TOKEN=... LORAPLANE_STORE_URL=... python -m adapters.parity.reference_server

Clients prove that they know the token (`reference_socket`). The newest client is the one: a new
controller takes over from an old one that does not know yet. A client that leaves takes nothing
along, so the next one finds the base loaded. Without a client for long the server ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from adapters.errors import ReferenceUnavailable, StoreUnavailable
from adapters.parity.protocol import FAREWELL_ID, Failure, Reply, Request
from adapters.parity.reference_channel import (
    ChannelBroken,
    LineTooLong,
    ProcessLauncher,
    child_environment,
)
from adapters.parity.reference_socket import DEFAULT_PORT, ProofRefused, SocketChannel, accept
from adapters.parity.reference_worker import FetchedAdapters, Worker
from adapters.store import ArtifactStore

TOKEN_VARIABLE = "LORAPLANE_REFERENCE_TOKEN"  # noqa: S105 - a variable's name
_MAX_CONNECTIONS = 64
"""Arbitrary: one client, and some that have not proved themselves yet."""
_TAKEN = "another controller has taken the reference over"


class ReferenceServer:
    """Passes the newest client's requests to the worker."""

    def __init__(
        self,
        worker: Worker,
        *,
        token: str,
        unused_seconds: float = 300.0,
        finish_seconds: float = 120.0,
    ) -> None:
        """Nothing listens yet.

        Args:
            worker: answers; the server owns it.
            token: what clients must know.
            unused_seconds: the server ends after so long without a client.
            finish_seconds: how long the answer to a client that left may go on. It keeps the
                loaded base; after that the child is killed, for the next client waits.
        """
        self._worker, self._token = worker, token
        self._unused_seconds, self._finish_seconds = unused_seconds, finish_seconds
        self._client: SocketChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unused_timer: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        """Serve until idle for too long, or cancelled; then end the child and every connection.

        Raises:
            OSError: nobody can listen there.
        """
        server = await asyncio.start_server(self._meet, host, port)
        say(f"waiting for a client on {host}:{server.sockets[0].getsockname()[1]}")
        self._rest()
        try:
            await self._done.wait()
            say("no client for long: ending")
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._worker.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            client = await accept(reader, writer, token=self._token)
            await self._take(client)
        except ChannelBroken:
            pass  # a probe of the port, or gone in the middle of a word
        except ProofRefused as exc:
            say(f"refused a client: {exc}")
        finally:
            self._tasks.discard(task)

    async def _take(self, client: SocketChannel) -> None:
        older, self._client = self._client, client
        self._stir()
        if older is not None:
            await _farewell(older)
        try:
            await self._converse(client)
        finally:
            await client.end()
            if self._client is client:
                self._client = None
                self._rest()

    async def _converse(self, client: SocketChannel) -> None:
        async def to_client(line: bytes) -> None:
            # Gone: the answer is read to its end all the same, so that the child is free again.
            with contextlib.suppress(ChannelBroken):
                await client.write_line(line)

        upcoming = asyncio.ensure_future(client.read_line())
        try:
            while True:
                request = msgspec.json.decode(await upcoming, type=Request)
                # Read on while the child works: that is how a client's going is noticed.
                upcoming = asyncio.ensure_future(client.read_line())
                answer = asyncio.ensure_future(self._worker.answer(request, to_client))
                await self._finish(answer, upcoming)
        except LineTooLong:
            say("the client's request is too long")
        except (msgspec.DecodeError, msgspec.ValidationError):
            say("the client's request cannot be read")
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

    async def _finish(self, answer: asyncio.Future[None], upcoming: asyncio.Future[bytes]) -> None:
        try:
            both: set[asyncio.Future[Any]] = {answer, upcoming}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done() and upcoming.exception() is not None:
                await asyncio.wait({answer}, timeout=self._finish_seconds)
                return
            await answer
        finally:
            if not answer.done():
                answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        self._unused_timer = loop.call_later(self._unused_seconds, self._done.set)

    def _stir(self) -> None:
        if self._unused_timer is not None:
            self._unused_timer.cancel()
            self._unused_timer = None


async def _farewell(client: SocketChannel) -> None:
    failure = ReferenceUnavailable(reason=_TAKEN)
    reply = Reply(FAREWELL_ID, error=Failure(failure.code, failure.fields))
    with contextlib.suppress(ChannelBroken, TimeoutError):
        async with asyncio.timeout(1.0):
            await client.write_line(msgspec.json.encode(reply))
    await client.end()


def say(text: str) -> None:
    """One line of the server's own log."""
    sys.stderr.write(f"reference: {text}\n")
    sys.stderr.flush()


def parse_options(argv: Sequence[str] | None, environ: Mapping[str, str]) -> argparse.Namespace:
    """Options; each one's default is in the environment, or stated here."""

    def default(name: str, otherwise: object) -> str:
        return environ.get(f"LORAPLANE_REFERENCE_{name}") or str(otherwise)

    parser = argparse.ArgumentParser(
        description="Standalone reference of the parity gate, over TCP."
    )
    parser.add_argument("--host", default=default("HOST", "0.0.0.0"))  # noqa: S104 - a pod's own
    parser.add_argument("--port", type=int, default=default("PORT", DEFAULT_PORT))
    parser.add_argument("--threads", type=int, default=default("THREADS", 0))
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default=default("DEVICE", "auto")
    )
    parser.add_argument("--unused-seconds", type=float, default=default("UNUSED_SECONDS", 300.0))
    parser.add_argument("--scratch", type=Path, default=default("SCRATCH", tempfile.gettempdir()))
    return parser.parse_args(argv)


async def serve(options: argparse.Namespace, *, token: str, store_url: str) -> int:
    """Run the server; the exit status: 0 after long without a client, 143 on SIGTERM.

    Raises:
        StoreUnavailable: the store's URL is not legal.
        OSError: the port or the scratch folder cannot be had.
    """
    command = [sys.executable, "-m", "adapters.parity.reference_process"]
    command += ["--threads", str(options.threads), "--device", options.device]
    env = child_environment(os.environ)
    store = ArtifactStore.from_url(store_url)
    with tempfile.TemporaryDirectory(prefix="reference-", dir=options.scratch) as scratch:
        adapters = FetchedAdapters(store, Path(scratch) / "adapters")
        worker = Worker(ProcessLauncher(command, env=env, on_log=_echo), adapters)
        server = ReferenceServer(worker, token=token, unused_seconds=options.unused_seconds)
        running = asyncio.ensure_future(server.run(options.host, options.port))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            return 128 + signal.SIGTERM
    return 0


def _echo(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the server."""
    options = parse_options(argv, os.environ)
    token, store_url = os.environ.get(TOKEN_VARIABLE), os.environ.get("LORAPLANE_STORE_URL")
    if not token or not store_url:
        sys.exit(f"{TOKEN_VARIABLE} and LORAPLANE_STORE_URL must be set")
    try:
        status = asyncio.run(serve(options, token=token, store_url=store_url))
    except (StoreUnavailable, OSError) as exc:
        sys.exit(f"cannot serve: {exc}")
    sys.exit(status)


if __name__ == "__main__":
    main()
