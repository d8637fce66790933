"""The controller's handle on the standalone model: a process, started when first needed.

Torch-free. One request at a time; the conversation is broken off when a request is cancelled, times
out or fails to answer, and the process is given back when idle. Where it runs is the launcher's to
say: by default a child, which also ends when this process is gone (end of its input). The base that
was last asked for is loaded again after every start.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from adapters.errors import ReferenceFailed, ReferenceUnavailable
from adapters.parity.protocol import (
    FAREWELL_ID,
    BaseFacts,
    ContinueItem,
    FinitenessReport,
    Generated,
    MergeFacts,
    Reply,
    Request,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
    VerifyRow,
)
from adapters.parity.reference_channel import (
    LINE_LIMIT_BYTES,
    Channel,
    ChannelBroken,
    Launcher,
    LineTooLong,
    OnWaiting,
    ProcessLauncher,
)
from adapters.parity.reference_failure import error_of, is_unheard

OnProgress = Callable[[int, int], None]
"""Hears (done, total) prompts of the running request."""

_Result = TypeVar("_Result")


class ReferenceClient:
    """Runs the standalone model in its own process and asks it. Close it when done."""

    def __init__(
        self,
        *,
        threads: int = 0,
        device: str = "auto",
        idle_seconds: float = 120.0,
        timeout_seconds: float = 1800.0,
        command: Sequence[str] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            threads: torch threads of the child; 0: its default (all cores).
            device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
            idle_seconds: the child ends, and frees its memory, after so long without a request.
            timeout_seconds: longest time for one request, a start of the child included.
            command: another program that speaks the protocol (default: this package's).
            launcher: brings the process; the client owns it. None: a child that runs `command`.
        """
        default = [sys.executable, "-m", "adapters.parity.reference_process"]
        options = ["--threads", str(threads), "--device", device]
        self._launcher = launcher or ProcessLauncher([*(command or default), *options])
        self._idle_seconds = idle_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()  # one request at a time: one pipe, one model
        self._channel: Channel | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_task: asyncio.Task[None] | None = None
        self._wanted_base: dict[str, Any] | None = None
        self._loaded_base: dict[str, Any] | None = None
        self._n_requests = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running child; None where it is no process of this machine."""
        channel = self._channel
        return channel.pid if channel is not None and channel.is_open else None

    @property
    def shares_files(self) -> bool:
        """Whether the process sees this machine's folders, as `merge` needs."""
        return self._launcher.shares_files

    async def load_base(
        self, model: Path | str, *, dtype: str, on_waiting: OnWaiting | None = None
    ) -> BaseFacts:
        """Load the base (`dtype`: float32, bfloat16, float16 or auto); a loaded one is kept.

        `on_waiting` hears why there is no process yet, where one has to be waited for.

        Raises:
            ReferenceUnavailable: there is no process, or it cannot load the base: whatever happens
                here has nothing to do with an adapter. All methods raise it.
        """
        wanted = self._wanted_base = {"model": str(model), "dtype": dtype}
        try:
            return await self._ask("load_base", wanted, BaseFacts, on_waiting=on_waiting)
        except ReferenceFailed as exc:
            raise ReferenceUnavailable(**exc.fields) from exc

    async def tokenize(
        self, prompts: Sequence[SuitePrompt], *, max_model_len: int | None = None
    ) -> list[TokenizedPrompt]:
        """Prompts as token ids, through the base's chat template.

        Raises:
            SuiteInvalid: a case cannot be formatted, or is longer than `max_model_len` tokens
                together with its answer. `line` is 0: the case id is in `field`.
            ReferenceFailed: the process died over it, or answered nonsense.
        """
        args = {"prompts": _plain(prompts), "max_model_len": max_model_len}
        return await self._ask("tokenize", args, list[TokenizedPrompt])

    async def check_finite(
        self,
        adapter: Path,
        prompts: Sequence[TokenizedPrompt],
        *,
        on_progress: OnProgress | None = None,
    ) -> FinitenessReport:
        """Load the adapter strictly and read every prompt once with it and once without.

        Raises:
            StrictLoadFailed: the file's tensors and the model's do not match one to one, or a
                value is not finite.
            ReferenceFailed: see `tokenize`.
        """
        args = {"adapter": str(adapter), "prompts": _plain(prompts)}
        return await self._ask("check_finite", args, FinitenessReport, on_progress)

    async def verify(
        self,
        adapter: Path | None,
        items: Sequence[VerifyItem],
        *,
        against_base: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[VerifyRow]:
        """Read answers with teacher forcing; one row per item, in order. `adapter` None: the base.

        Raises:
            StrictLoadFailed, ReferenceFailed: see `check_finite`.
        """
        args = {
            "adapter": _path(adapter),
            "items": _plain(items),
            "against_base": against_base,
        }
        rows = await self._ask("verify", args, list[VerifyRow], on_progress)
        if len(rows) != len(items):
            raise ReferenceFailed(reason=f"{len(rows)} rows for {len(items)} answers")
        return rows

    async def generate(
        self, adapter: Path | None, prompt_token_ids: Sequence[int], n: int
    ) -> Generated:
        """At most `n` greedy tokens after one prompt; many cost less with `continue_from`.

        Raises:
            StrictLoadFailed, ReferenceFailed: see `check_finite`.
        """
        args = {"adapter": _path(adapter), "prompt_token_ids": list(prompt_token_ids), "n": n}
        return await self._ask("generate", args, Generated)

    async def continue_from(
        self,
        adapter: Path | None,
        items: Sequence[ContinueItem],
        *,
        on_progress: OnProgress | None = None,
    ) -> list[Generated]:
        """Go on greedily from every item's tokens, in batches by length; results in order.

        `text` is of the new tokens alone: decode a whole answer at once (`decode`). In float32 the
        tokens are those of one row alone; in a shorter number type the shape of a batch may decide
        near-ties otherwise.

        Raises:
            StrictLoadFailed, ReferenceFailed: see `check_finite`.
        """
        args = {"adapter": _path(adapter), "items": _plain(items)}
        done = await self._ask("continue_from", args, list[Generated], on_progress)
        if len(done) != len(items):
            raise ReferenceFailed(reason=f"{len(done)} continuations for {len(items)} items")
        return done

    async def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """Token lists as text, special tokens left out; one tokenizer for both sides' answers.

        Raises:
            ReferenceFailed: see `tokenize`.
        """
        args = {"token_ids": [list(item) for item in token_ids]}
        texts = await self._ask("decode", args, list[str])
        if len(texts) != len(token_ids):
            raise ReferenceFailed(reason=f"{len(texts)} texts for {len(token_ids)} token lists")
        return texts

    async def merge(self, adapter: Path, folder: Path) -> MergeFacts:
        """Write base and adapter, merged, to `folder` as a model of its own.

        Raises:
            StrictLoadFailed, ReferenceFailed: see `check_finite`; or the folder cannot be written.
        """
        return await self._ask(
            "merge", {"adapter": str(adapter), "folder": str(folder)}, MergeFacts
        )

    async def close(self) -> None:
        """End the process; a later request starts a new one."""
        if self._idle_task is not None:
            self._idle_task.cancel()
            await asyncio.gather(self._idle_task, return_exceptions=True)
            self._idle_task = None
        async with self._lock:
            self._disarm_idle()
            await self._release()

    async def _ask(
        self,
        op: str,
        args: dict[str, Any],
        result: type[_Result],
        on_progress: OnProgress | None = None,
        *,
        on_waiting: OnWaiting | None = None,
    ) -> _Result:
        async with self._lock:
            self._disarm_idle()
            is_answered = False
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    reply = await self._answer(op, args, on_progress, on_waiting or _nobody)
                is_answered = True
                raw = await self._unwrap(reply)
                if op == "load_base":
                    self._loaded_base = args
                return msgspec.convert(raw, result, strict=False)
            except TimeoutError as exc:
                reason = f"no answer to {op} within {self._timeout_seconds:g} s"
                raise await self._failed(reason) from exc
            except (msgspec.ValidationError, msgspec.DecodeError) as exc:
                raise await self._failed(f"unreadable answer to {op}: {exc}") from exc
            except LineTooLong as exc:
                reason = f"the answer to {op} is longer than {LINE_LIMIT_BYTES} bytes"
                raise await self._failed(reason) from exc
            finally:
                # Cancelled or broken off: the late answer must not meet the next request.
                if not is_answered:
                    await self._drop()
                self._arm_idle()

    async def _answer(
        self, op: str, args: dict[str, Any], on_progress: OnProgress | None, on_waiting: OnWaiting
    ) -> Reply:
        n_left, death = self._launcher.n_resends, None
        while True:
            try:
                await self._prepare(op, on_waiting)
                return await self._exchange(op, args, on_progress)
            except ReferenceUnavailable as exc:
                # Without a second process the first one's end is what there is to tell.
                raise death or exc from exc
            except ChannelBroken as exc:
                death = await self._death(op)
                if n_left == 0:
                    raise death from exc
                n_left -= 1
                await self._drop()

    async def _prepare(self, op: str, on_waiting: OnWaiting) -> None:
        if not self._is_running():
            await self._drop()
            self._channel = await self._launcher.start(on_waiting)
        if op != "load_base" and self._wanted_base and self._loaded_base != self._wanted_base:
            try:
                await self._unwrap(await self._exchange("load_base", self._wanted_base, None))
            except ReferenceFailed as exc:
                raise ReferenceUnavailable(**exc.fields) from exc
            self._loaded_base = self._wanted_base

    async def _exchange(
        self, op: str, args: dict[str, Any], on_progress: OnProgress | None
    ) -> Reply:
        channel = self._channel
        if channel is None:
            raise ReferenceFailed(reason="the process is not running")
        self._n_requests += 1
        request = Request(self._n_requests, op, args)
        await channel.write_line(msgspec.json.encode(request))
        while True:
            reply = msgspec.json.decode(await channel.read_line(), type=Reply)
            if reply.id == FAREWELL_ID and reply.error is not None:
                # Taken over by another client: there is nobody to ask any more.
                raise ReferenceUnavailable(reason=str(reply.error.fields.get("reason", "")))
            if reply.id != request.id:
                raise ReferenceFailed(reason=f"answer to request {reply.id}, not {request.id}")
            if reply.progress is None:
                return reply
            if on_progress is not None:
                on_progress(reply.progress.done, reply.progress.total)

    async def _death(self, op: str) -> ReferenceFailed:
        channel = self._channel
        end = "the process is not running" if channel is None else await channel.explain_end()
        return await self._failed(f"{end} during {op}")

    async def _unwrap(self, reply: Reply) -> Any:
        if reply.error is not None:
            error = error_of(reply.error)
            raise await self._failed(error.fields["reason"]) if is_unheard(error) else error
        return reply.result

    async def _failed(self, reason: str) -> ReferenceFailed:
        tail = "" if self._channel is None else await self._channel.log_tail()
        return ReferenceFailed(reason=reason, log_tail=tail)

    def _is_running(self) -> bool:
        return self._channel is not None and self._channel.is_open

    async def _drop(self) -> None:
        channel, self._channel, self._loaded_base = self._channel, None, None
        if channel is not None:
            await channel.end()

    async def _release(self) -> None:
        await self._drop()
        await self._launcher.release()

    def _arm_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self._idle_seconds, self._begin_idle_end)

    def _disarm_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _begin_idle_end(self) -> None:
        self._idle_timer = None
        self._idle_task = asyncio.get_running_loop().create_task(self._end_idle())

    async def _end_idle(self) -> None:
        if self._lock.locked():
            return  # a request came in between; it arms the timer again
        async with self._lock:
            await self._release()


def _nobody(_reason: str) -> None:
    """Nobody wants to hear it."""


def _path(adapter: Path | None) -> str | None:
    return None if adapter is None else str(adapter)


def _plain(values: Sequence[msgspec.Struct]) -> Any:
    return msgspec.to_builtins(list(values))
