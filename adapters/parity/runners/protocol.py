"""What the gate needs of whoever plays the standalone model. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from adapters.parity.protocol import SuitePrompt, VerifyItem, VerifyRow

OnProgress = Callable[[int, int], None]
"""Hears (done, total) cases of the running request."""


class RunnerNote(msgspec.Struct, frozen=True):
    """Something that a report must say about this runner; `code` is a stable slug."""

    code: str
    text: str


class RunnerFacts(msgspec.Struct, frozen=True):
    """What a session can be used for."""

    name: str
    """`peft`, `openai` or `merged`."""
    can_verify_tokens: bool
    """False: level 1 (numeric) is not available; levels 2 and 3 (answer, task) decide."""
    versions: dict[str, str] = {}
    """What computes on this side, for the report and for `reference_key`."""
    notes: tuple[RunnerNote, ...] = ()


class StandaloneAnswer(msgspec.Struct, frozen=True):
    """The standalone model's own greedy answer to one case.

    `tool_calls` are the response's, in OpenAI's form, where the deployment parses them itself;
    `token_ids` is None where it gives text alone.
    """

    case_id: str
    text: str
    tool_calls: list[dict[str, Any]] | None = None
    token_ids: tuple[int, ...] | None = None
    is_cut: bool = False
    """Whether the answer ended at the case's `max_tokens` and not by itself."""


class RunnerSession(Protocol):
    """One adapter, ready to be asked."""

    @property
    def facts(self) -> RunnerFacts:
        """What this session can do, and what a report must say of it."""
        ...

    async def answers(
        self, prompts: Sequence[SuitePrompt], *, on_progress: OnProgress | None = None
    ) -> list[StandaloneAnswer]:
        """The greedy answer to every prompt, in order.

        Raises:
            ParityError: see the runner; none of them is a verdict about the adapter.
        """
        ...

    async def verify(
        self, items: Sequence[VerifyItem], *, on_progress: OnProgress | None = None
    ) -> list[VerifyRow]:
        """Read answers with teacher forcing; one row per item, in order.

        Raises:
            TokensUnavailable: `facts.can_verify_tokens` is False.
            ParityError: see the runner; none of them is a verdict about the adapter.
        """
        ...


class ReferenceRunner(Protocol):
    """Makes sessions. Holds nothing while no session is open."""

    @property
    def name(self) -> str:
        """`peft`, `openai` or `merged`."""
        ...

    def open(self, adapter: Path | None) -> AbstractAsyncContextManager[RunnerSession]:
        """Get ready for one adapter (None: the base), and give everything back afterwards.

        Raises (on entering):
            ParityError: the standalone side cannot be made ready; never a verdict.
        """
        ...
