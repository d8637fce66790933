"""The child behind a reference server: one request at a time, whoever asks.

The child keeps its base between clients, and a new child is given the last base again. Adapters are
named by digest, since no client's folder is reachable here: each is fetched from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from adapters.durable import remove_folder
from adapters.errors import AdapterError, InvalidName, ReferenceFailed, ReferenceUnavailable
from adapters.identity import parse_digest
from adapters.parity.protocol import Failure, Reply, Request
from adapters.parity.reference_channel import Channel, ChannelBroken, Launcher, LineTooLong
from adapters.store import ArtifactStore

Say = Callable[[bytes], Awaitable[None]]
"""Takes one line of a reply, without its end; must not raise when nobody listens any more."""
_KEPT_ADAPTERS = 8
"""Arbitrary: one evaluation asks for one adapter, and the next rarely for an old one."""
_NO_MERGE = "a merged model needs a folder that both sides reach: run the reference as a process"


class FetchedAdapters:
    """Adapter folders of this machine, by what a client calls them."""

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        """`folder` is this object's own: nobody else writes there."""
        self._store, self._folder = store, folder
        self._paths: dict[str, Path] = {}

    async def path_of(self, client_path: str) -> Path:
        """The verified folder of the artifact that the path's last part, `sha256-<hex>`, names.

        Raises:
            ReferenceFailed: the path names no artifact, or the folder cannot be written.
            ArtifactNotFound, DigestMismatch, StoreUnavailable: see `ArtifactStore.fetch`.
        """
        try:
            digest = parse_digest(Path(client_path).name.replace("-", ":", 1))
        except InvalidName as exc:
            reason = "an adapter is named by its digest here: the path must end in sha256-<hex>"
            raise ReferenceFailed(reason=reason) from exc
        path = self._paths.pop(digest, None)
        if path is None:
            try:
                path = await self._store.fetch(digest, self._folder)
            except OSError as exc:
                reason = f"the adapter cannot be written to {self._folder}: {exc}"
                raise ReferenceFailed(reason=reason) from exc
        self._paths[digest] = path  # the newest is last
        await self._forget_oldest()
        return path

    async def _forget_oldest(self) -> None:
        while len(self._paths) > _KEPT_ADAPTERS:
            await asyncio.to_thread(remove_folder, self._paths.pop(next(iter(self._paths))))


class Worker:
    """Answers requests with a child that it starts when first asked."""

    def __init__(self, launcher: Launcher, adapters: FetchedAdapters) -> None:
        self._launcher, self._adapters = launcher, adapters
        self._lock = asyncio.Lock()
        self._channel: Channel | None = None
        self._base: dict[str, Any] | None = None

    async def answer(self, request: Request, say: Say) -> None:
        """Say the request's progress and one reply; whatever goes wrong becomes that reply.

        Cancelled: the child is killed, since its late answer must not meet the next request.
        """
        async with self._lock:
            try:
                args = await self._local(request)
                await self._prepare(request.op)
                await self._exchange(Request(request.id, request.op, args), say)
            except AdapterError as exc:
                await say(_line(Reply(request.id, error=Failure(exc.code, exc.fields))))

    async def close(self) -> None:
        """End the child, also in the middle of an answer."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.end()

    async def _local(self, request: Request) -> dict[str, Any]:
        if request.op == "merge":
            raise ReferenceFailed(reason=_NO_MERGE)
        adapter = request.args.get("adapter")
        if adapter is None:
            return request.args
        return {**request.args, "adapter": str(await self._adapters.path_of(str(adapter)))}

    async def _prepare(self, op: str) -> None:
        if self._channel is not None and self._channel.is_open:
            return
        await self.close()
        self._channel = await self._launcher.start(_nobody)
        if op != "load_base" and self._base is not None:
            reply = await self._exchange(Request(0, "load_base", self._base), _silence)
            if reply.error is not None:
                reason = str(reply.error.fields.get("reason", reply.error.code))
                raise ReferenceUnavailable(reason=f"the base could not be loaded again: {reason}")

    async def _exchange(self, request: Request, say: Say) -> Reply:
        channel, is_answered = self._channel, False
        if channel is None:
            raise ReferenceFailed(reason="the process is not running")
        try:
            await channel.write_line(msgspec.json.encode(request))
            reply = await self._pass_on(channel, say)
            is_answered = True
        except ChannelBroken as exc:
            reason = f"{await channel.explain_end()} during {request.op}"
            raise ReferenceFailed(reason=reason, log_tail=await channel.log_tail()) from exc
        except (msgspec.DecodeError, msgspec.ValidationError, LineTooLong) as exc:
            reason = f"the process's answer to {request.op} cannot be read"
            raise ReferenceFailed(reason=reason, log_tail=await channel.log_tail()) from exc
        finally:
            if not is_answered:
                await self.close()
        if request.op == "load_base" and reply.error is None:
            self._base = request.args
        return reply

    async def _pass_on(self, channel: Channel, say: Say) -> Reply:
        while True:
            line = await channel.read_line()
            reply = msgspec.json.decode(line, type=Reply)
            await say(line.removesuffix(b"\n"))
            if reply.progress is None:
                return reply


def _line(reply: Reply) -> bytes:
    return msgspec.json.encode(reply)


def _nobody(_reason: str) -> None:
    """A child is there at once."""


async def _silence(_line: bytes) -> None:
    """Nobody asked for this answer."""
