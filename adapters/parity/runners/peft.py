"""Runner `peft`: base and adapter, unmerged, in a process of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.parity.protocol import (
    BaseFacts,
    ContinueItem,
    SuitePrompt,
    VerifyItem,
    VerifyRow,
)
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.runners.protocol import OnProgress, RunnerFacts, StandaloneAnswer


class PeftRunner:
    """Uses a `ReferenceClient` that others may use as well; it stays the caller's to close."""

    name = "peft"

    def __init__(
        self, client: ReferenceClient, *, model: Path | str, dtype: str, is_released: bool = True
    ) -> None:
        """Nothing is loaded yet.

        Args:
            client: whose process is asked.
            model: the base.
            dtype: float32, bfloat16, float16 or auto.
            is_released: end the process, and free its memory, when a session ends; otherwise the
                client's own idle time decides, and the next session starts faster.
        """
        self._client, self._model, self._dtype = client, model, dtype
        self._is_released = is_released

    @asynccontextmanager
    async def open(self, adapter: Path | None) -> AsyncIterator[PeftSession]:
        """Load the base; the adapter is loaded, strictly, with the first request.

        Raises:
            ReferenceFailed: the base cannot be loaded, or the process died.
        """
        try:
            base = await self._client.load_base(self._model, dtype=self._dtype)
            yield PeftSession(self._client, base, adapter)
        finally:
            if self._is_released:
                await self._client.close()


class PeftSession:
    """One adapter on the process."""

    def __init__(self, client: ReferenceClient, base: BaseFacts, adapter: Path | None) -> None:
        self._client, self._base, self._adapter = client, base, adapter

    @property
    def facts(self) -> RunnerFacts:
        """Tokens can be verified."""
        return RunnerFacts(PeftRunner.name, can_verify_tokens=True, versions=self._base.versions)

    async def answers(
        self, prompts: Sequence[SuitePrompt], *, on_progress: OnProgress | None = None
    ) -> list[StandaloneAnswer]:
        """Generate every answer: only for those who have none to verify.

        Raises:
            StrictLoadFailed, SuiteInvalid, ReferenceFailed: see `ReferenceClient`.
        """
        cases = await self._client.tokenize(prompts)
        items = [ContinueItem(item.case_id, item.token_ids, item.max_tokens) for item in cases]
        done = await self._client.continue_from(self._adapter, items, on_progress=on_progress)
        stops = frozenset(self._base.eos_token_ids)
        return [
            StandaloneAnswer(
                case_id=item.case_id,
                text=own.text,
                token_ids=own.token_ids,
                is_cut=not own.token_ids or own.token_ids[-1] not in stops,
            )
            for item, own in zip(items, done, strict=True)
        ]

    async def verify(
        self, items: Sequence[VerifyItem], *, on_progress: OnProgress | None = None
    ) -> list[VerifyRow]:
        """One teacher-forced pass.

        Raises:
            StrictLoadFailed, ReferenceFailed: see `ReferenceClient`.
        """
        return await self._client.verify(self._adapter, items, on_progress=on_progress)
