"""The controller's handle on the standalone model: a child process, started when first needed.

Torch-free. One request at a time; the child is killed by its own id when a request is cancelled,
times out or fails to answer, and ends by itself when idle or when this process is gone (end of its
input). The base that was last asked for is loaded again after every start.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from adapters.errors import ParityError, ReferenceFailed, StrictLoadFailed, SuiteInvalid
from adapters.parity.protocol import (
    BaseFacts,
    ContinueItem,
    Failure,
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

OnProgress = Callable[[int, int], None]
"""Hears (done, total) prompts of the running request."""

_ERRORS: dict[str, type[ParityError]] = {
    kind.code: kind for kind in (StrictLoadFailed, SuiteInvalid)
}
_LINE_LIMIT_BYTES = 256 * 1024**2
_LOG_LINES = 80
_DYING_SECONDS = 5.0
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
    ) -> None:
        """Nothing is started yet.

        Args:
            threads: torch threads of the child; 0: its default (all cores).
            device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
            idle_seconds: the child ends, and frees its memory, after so long without a request.
            timeout_seconds: longest time for one request, a start of the child included.
            command: another program that speaks the protocol (default: this package's).
        """
        default = [sys.executable, "-m", "adapters.parity.reference_process"]
        options = ["--threads", str(threads), "--device", device]
        self._command = [*(command or default), *options]
        self._idle_seconds = idle_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()  # one request at a time: one pipe, one model
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_task: asyncio.Task[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_task: asyncio.Task[None] | None = None
        self._wanted_base: dict[str, Any] | None = None
        self._loaded_base: dict[str, Any] | None = None
        self._n_requests = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._process.pid if self._is_running() and self._process else None

    async def load_base(self, model: Path | str, *, dtype: str) -> BaseFacts:
        """Load the base (`dtype`: float32, bfloat16, float16 or auto); a loaded one is kept.

        Raises:
            ReferenceFailed: the base cannot be loaded, or the process died.
        """
        self._wanted_base = {"model": str(model), "dtype": dtype}
        return await self._ask("load_base", self._wanted_base, BaseFacts)

    async def tokenize(
        self, prompts: Sequence[SuitePrompt], *, max_model_len: int | None = None
    ) -> list[TokenizedPrompt]:
        """Prompts as token ids, through the base's chat template.

        Raises:
            SuiteInvalid: a case cannot be formatted, or is longer than `max_model_len` tokens
                together with its answer. `line` is 0: the case id is in `field`.
            ReferenceFailed: see `load_base`.
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
            ReferenceFailed: see `load_base`.
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
            ReferenceFailed: see `load_base`.
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
        """End the child; a later request starts a new one."""
        if self._idle_task is not None:
            self._idle_task.cancel()
            await asyncio.gather(self._idle_task, return_exceptions=True)
            self._idle_task = None
        async with self._lock:
            self._disarm_idle()
            await self._kill()

    async def _ask(
        self,
        op: str,
        args: dict[str, Any],
        result: type[_Result],
        on_progress: OnProgress | None = None,
    ) -> _Result:
        async with self._lock:
            self._disarm_idle()
            is_answered = False
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._prepare(op)
                    reply = await self._exchange(op, args, on_progress)
                is_answered = True
                raw = self._unwrap(reply)
                if op == "load_base":
                    self._loaded_base = args
                return msgspec.convert(raw, result, strict=False)
            except TimeoutError as exc:
                reason = f"no answer to {op} within {self._timeout_seconds:g} s"
                raise ReferenceFailed(reason=reason, log_tail=self._log_tail()) from exc
            except (msgspec.ValidationError, msgspec.DecodeError) as exc:
                reason = f"unreadable answer to {op}: {exc}"
                raise ReferenceFailed(reason=reason, log_tail=self._log_tail()) from exc
            finally:
                # Cancelled or broken off: the late answer must not meet the next request.
                if not is_answered:
                    await self._kill()
                elif self._is_running():
                    self._arm_idle()

    async def _prepare(self, op: str) -> None:
        if not self._is_running():
            await self._start()
        if op != "load_base" and self._wanted_base and self._loaded_base != self._wanted_base:
            self._unwrap(await self._exchange("load_base", self._wanted_base, None))
            self._loaded_base = self._wanted_base

    async def _start(self) -> None:
        await self._kill()
        self._log.clear()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT_BYTES,
            )
        except OSError as exc:
            raise ReferenceFailed(reason=f"the process cannot be started: {exc}") from exc
        self._process = process
        self._log_task = asyncio.create_task(self._follow_log(process))

    async def _exchange(
        self, op: str, args: dict[str, Any], on_progress: OnProgress | None
    ) -> Reply:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ReferenceFailed(reason="the process is not running")
        self._n_requests += 1
        request = Request(self._n_requests, op, args)
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise await self._death(op) from exc
        while True:
            line = await self._read_line(process.stdout, op)
            reply = msgspec.json.decode(line, type=Reply)
            if reply.id != request.id:
                raise ReferenceFailed(reason=f"answer to request {reply.id}, not {request.id}")
            if reply.progress is None:
                return reply
            if on_progress is not None:
                on_progress(reply.progress.done, reply.progress.total)

    async def _read_line(self, stream: asyncio.StreamReader, op: str) -> bytes:
        try:
            line = await stream.readline()
        except ValueError as exc:
            reason = f"the answer to {op} is longer than {_LINE_LIMIT_BYTES} bytes"
            raise ReferenceFailed(reason=reason, log_tail=self._log_tail()) from exc
        if not line.endswith(b"\n"):
            raise await self._death(op)
        return line

    async def _death(self, op: str) -> ReferenceFailed:
        process = self._process
        if process is not None:
            # Its output ended, so it is ending: its own status says more than our signal's.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _DYING_SECONDS)
        await self._kill()
        status = process.returncode if process is not None else None
        reason = f"the process ended with status {status} during {op}"
        return ReferenceFailed(reason=reason, log_tail=self._log_tail())

    def _unwrap(self, reply: Reply) -> Any:
        if reply.error is not None:
            raise self._error(reply.error)
        return reply.result

    def _error(self, failure: Failure) -> ParityError:
        kind = _ERRORS.get(failure.code)
        if kind is not None:
            return kind(**failure.fields)
        reason = str(failure.fields.get("reason", failure.code))
        tail = str(failure.fields.get("log_tail") or self._log_tail())
        return ReferenceFailed(reason=reason, log_tail=tail)

    async def _follow_log(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            return
        while True:
            chunk = await process.stderr.read(65_536)
            if not chunk:
                return
            for line in chunk.decode(errors="replace").splitlines():
                self._log.append(line[:500])

    def _log_tail(self) -> str:
        return "\n".join(self._log)

    def _is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _kill(self) -> None:
        process, self._process, self._loaded_base = self._process, None, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Shielded: a cancelled caller must still leave no zombie behind.
            await asyncio.shield(asyncio.ensure_future(process.wait()))
        if self._log_task is not None:
            task, self._log_task = self._log_task, None
            await asyncio.wait([task], timeout=1.0)
            task.cancel()

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
            await self._kill()


def _path(adapter: Path | None) -> str | None:
    return None if adapter is None else str(adapter)


def _plain(values: Sequence[msgspec.Struct]) -> Any:
    return msgspec.to_builtins(list(values))
