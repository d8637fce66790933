"""How a standalone process is started, spoken to and ended: a port, and the child on this machine.

`ReferenceClient` knows requests and answers; a launcher knows where the process that answers comes
from. A channel carries lines and says, when it breaks, what became of the other side. Torch-free.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from adapters.errors import ReferenceUnavailable

OnWaiting = Callable[[str], None]
"""Hears why there is no process to ask yet, in one sentence."""
LINE_LIMIT_BYTES = 256 * 1024**2
"""Longest line of the protocol; arbitrary, far above a suite of thousands of cases."""
_LOG_LINES = 80
_DYING_SECONDS = 5.0
_CHILD_SEES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"),
        # A base that is named by its hub id is fetched by the child itself.
        *("XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    }
)
_CHILD_SEES_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "CUDA", "NVIDIA", "CUBLAS", "TORCH", "PYTORCH", "TRITON"),
    *("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_"),
    "TOKENIZERS_",
)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process that reads tenants' tensors gets to see of `environ`: a list of what it needs.

    Not the store's credentials, tokens or the registry's URL. `HF_TOKEN` is the one secret in it.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _CHILD_SEES or name.startswith(_CHILD_SEES_PREFIXES)
    }


class ChannelBroken(Exception):
    """The other side is gone: what was asked may or may not have been done."""


class LineTooLong(Exception):
    """The other side sent a line beyond `LINE_LIMIT_BYTES`."""


class Channel(Protocol):
    """A conversation with one running process."""

    @property
    def pid(self) -> int | None:
        """Process id, where it is a process of this machine."""
        ...

    @property
    def is_open(self) -> bool:
        """False once the other side is known to be gone."""
        ...

    async def write_line(self, line: bytes) -> None:
        """Send one line, without its end.

        Raises:
            ChannelBroken: nobody reads any more.
        """
        ...

    async def read_line(self) -> bytes:
        """The next line, its end included.

        Raises:
            ChannelBroken: the other side ended before the line did.
            LineTooLong: it is longer than this side takes.
        """
        ...

    async def explain_end(self) -> str:
        """What became of the other side, once the channel broke: a clause for an error."""
        ...

    async def log_tail(self) -> str:
        """The last lines that the process logged; empty where there are none."""
        ...

    async def end(self) -> None:
        """Break off: an answer that is still to come must reach nobody. Twice is fine."""
        ...


class Launcher(Protocol):
    """Where the process comes from."""

    @property
    def n_resends(self) -> int:
        """How often a request that met a broken channel is worth sending to another process."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether both sides see the same folders: a merged model is handed over in one."""
        ...

    async def start(self, on_waiting: OnWaiting) -> Channel:
        """A channel to a process that can be asked; waits until there is one.

        Raises:
            ReferenceUnavailable: there is none, with the reason.
        """
        ...

    async def release(self) -> None:
        """Give back what was started; a later `start` begins anew. Twice is fine."""
        ...


class ProcessLauncher:
    """Starts a program of this machine that speaks the protocol on its standard streams."""

    n_resends = 0
    """A child that dies over a request would die over it again."""
    shares_files = True

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is started yet.

        `env`: all of the child's environment; None: `child_environment` of this process's.
        `on_log`: hears its log.
        """
        self._command, self._env, self._on_log = tuple(command), env, on_log

    async def start(self, on_waiting: OnWaiting) -> ProcessChannel:
        """A new child.

        Raises:
            ReferenceUnavailable: the program cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE_LIMIT_BYTES,
                env=child_environment(os.environ) if self._env is None else dict(self._env),
            )
        except OSError as exc:
            raise ReferenceUnavailable(reason=f"the process cannot be started: {exc}") from exc
        return ProcessChannel(process, self._on_log)

    async def release(self) -> None:
        """Nothing is left when its channel has ended."""


class ProcessChannel:
    """A child's standard streams; what it says on stderr is its log."""

    def __init__(
        self, process: asyncio.subprocess.Process, on_log: Callable[[str], None] | None = None
    ) -> None:
        self._process, self._on_log = process, on_log
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_task = asyncio.create_task(self._follow_log())

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_open(self) -> bool:
        """Whether the child runs."""
        return self._process.returncode is None

    async def write_line(self, line: bytes) -> None:
        """See `Channel`."""
        if self._process.stdin is None:
            raise ChannelBroken
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise ChannelBroken from exc

    async def read_line(self) -> bytes:
        """See `Channel`."""
        return await read_whole_line(self._process.stdout)

    async def explain_end(self) -> str:
        """The child's own exit status where it gave one, else that of our signal."""
        # Its output ended, so it is ending: its own status says more than our signal's.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _DYING_SECONDS)
        await self.end()
        return f"the process ended with status {self._process.returncode}"

    async def log_tail(self) -> str:
        """See `Channel`."""
        return "\n".join(self._log)

    async def end(self) -> None:
        """Kill the child by its own id and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # Shielded: a cancelled caller must still leave no zombie behind.
        await asyncio.shield(asyncio.ensure_future(self._process.wait()))
        await asyncio.wait([self._log_task], timeout=1.0)
        self._log_task.cancel()

    async def _follow_log(self) -> None:
        if self._process.stderr is None:
            return
        while chunk := await self._process.stderr.read(65_536):
            for line in chunk.decode(errors="replace").splitlines():
                self._log.append(line[:500])
                if self._on_log is not None:
                    self._on_log(line)


async def read_whole_line(stream: asyncio.StreamReader | None) -> bytes:
    """The next line of a stream, its end included.

    Raises:
        ChannelBroken: the stream ended before the line did.
        LineTooLong: the line is longer than the stream's limit.
    """
    if stream is None:
        raise ChannelBroken
    try:
        line = await stream.readline()
    except ValueError as exc:
        raise LineTooLong from exc
    except ConnectionError as exc:
        raise ChannelBroken from exc
    if not line.endswith(b"\n"):
        raise ChannelBroken
    return line
