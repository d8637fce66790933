"""Runner `merged`: a second, plain server on merged weights, asked as `openai` asks.

For those who serve merged models today and want to know what unmerged serving changes. The server
is started from a command that the operator gives, lives as long as a session, and its folder with
the merged weights is removed afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.parity.protocol import MergeFacts
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.runners.openai import OpenAiSession, can_verify_tokens
from adapters.parity.runners.openai_http import Deployment
from adapters.parity.runners.protocol import RunnerNote
from adapters.parity.runners.server_process import running_server

SERVED_NAME = "merged"
"""Under which the command must serve the model; `{name}` in the command."""


class MergedRunner:
    """Merges in a `ReferenceClient`'s process; that stays the caller's to close."""

    name = "merged"

    def __init__(
        self,
        client: ReferenceClient,
        *,
        model: Path | str,
        dtype: str,
        command: Sequence[str],
        folder: Path | None = None,
        ready_seconds: float = 600.0,
        concurrency: int = 4,
        timeout_seconds: float = 120.0,
    ) -> None:
        """Nothing is started yet.

        Args:
            client: whose process merges; it is ended before the server starts, for the memory.
            model: the base.
            dtype: number type of the merged weights: float32, bfloat16, float16 or auto.
            command: of the server; `{model}`, `{port}` and `{name}` are filled in, in each word.
            folder: where merged weights are written, in a folder of their own (default: the
                system's temporary folder).
            ready_seconds: how long the server may take until it lists its models.
            concurrency: requests in flight at most.
            timeout_seconds: for one request.
        """
        self._client, self._model, self._dtype = client, model, dtype
        self._command, self._folder, self._ready_seconds = list(command), folder, ready_seconds
        self._concurrency, self._timeout_seconds = concurrency, timeout_seconds

    @asynccontextmanager
    async def open(self, adapter: Path | None) -> AsyncIterator[OpenAiSession]:
        """Merge, start the server, wait until it answers; afterwards end it and remove the folder.

        Raises:
            StrictLoadFailed, ReferenceFailed: the adapter cannot be merged.
            RunnerUnreachable: the server does not start, or not in time.
            RunnerRefused, RunnerAnswerInvalid: it starts and cannot be used.
        """
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="merged-", dir=self._folder))
        try:
            base = await self._client.load_base(self._model, dtype=self._dtype)
            served, notes = Path(self._model), tuple[RunnerNote, ...]()
            if adapter is not None:
                merged = await self._client.merge(adapter, folder / "model")
                served, notes = folder / "model", (merge_note(merged),)
            await self._client.close()
            async with (
                running_server(
                    self._command,
                    values={"model": str(served), "name": SERVED_NAME},
                    log=folder / "server.log",
                ) as server,
                Deployment(
                    url=server.url,
                    model=SERVED_NAME,
                    concurrency=self._concurrency,
                    timeout_seconds=self._timeout_seconds,
                ) as deployment,
            ):
                await server.wait_ready(deployment, seconds=self._ready_seconds)
                yield OpenAiSession(
                    deployment,
                    name=self.name,
                    can_verify=await can_verify_tokens(deployment),
                    versions=base.versions,
                    notes=notes,
                )
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def merge_note(merged: MergeFacts) -> RunnerNote:
    """What a report must say of the merge."""
    if merged.is_exact:
        text = "The adapter was merged in float32: only the order of summation differs."
        return RunnerNote("merged_exactly", text)
    lost = "an unknown share" if merged.lost_fraction is None else f"{merged.lost_fraction:.1%}"
    return RunnerNote(
        "merging_changed_the_model",
        f"The merged weights were saved in {merged.dtype}, which rounded away {lost} of the "
        f"adapter's contribution over {merged.n_modules} modules: differences from unmerged "
        "serving are expected, and are not the engine's.",
    )
