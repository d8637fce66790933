"""A fake of `ReferenceClient`: the same answers, computed in this process by a tiny model.

It spares tests of the steps the seconds that a child process takes to import torch; the real child
is used by tests/integration/test_gate_with_real_reference.py.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from adapters.errors import ReferenceFailed, ReferenceUnavailable, StrictLoadFailed
from adapters.parity.protocol import (
    BaseFacts,
    ContinueItem,
    EffectRow,
    FinitenessReport,
    Generated,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
    VerifyRow,
)
from adapters.parity.reference_channel import OnWaiting
from tests.fakes.tiny_model import LoadRefused, TinyModel

OnProgress = Callable[[int, int], None]


class FakeReference:
    def __init__(self, model: TinyModel, base: Path) -> None:
        self._model = model
        self._tokenizer: Any = AutoTokenizer.from_pretrained(base)
        self.failures_left = 0
        self.absences_left = 0
        """So many requests will end as if the process had died."""
        self.n_requests = 0
        self.n_base_readings = 0
        self.is_closed = False
        self.shares_files = True
        self.waits: str | None = None
        """Why it cannot be asked until `may_go_on`; None: it can."""
        self.may_go_on = asyncio.Event()

    async def load_base(
        self, model: Path | str, *, dtype: str, on_waiting: OnWaiting | None = None
    ) -> BaseFacts:
        if self.waits is not None and on_waiting is not None:
            on_waiting(self.waits)
            await self.may_go_on.wait()
        self._begin()
        return BaseFacts(
            model=str(model), revision="r1", dtype=dtype, n_parameters=1, versions={"torch": "t"}
        )

    async def tokenize(
        self, prompts: Sequence[SuitePrompt], *, max_model_len: int | None = None
    ) -> list[TokenizedPrompt]:
        self._begin()
        return [
            TokenizedPrompt(item.case_id, tuple(self._token_ids(item)), item.max_tokens)
            for item in prompts
        ]

    async def check_finite(
        self,
        adapter: Path,
        prompts: Sequence[TokenizedPrompt],
        *,
        on_progress: OnProgress | None = None,
    ) -> FinitenessReport:
        self._begin()
        key = await self._load(adapter)
        rows = []
        for index, prompt in enumerate(prompts):
            rows.append(await asyncio.to_thread(self._effect, prompt, key))
            if on_progress:
                on_progress(index + 1, len(prompts))
        return FinitenessReport(tuple(rows), ())

    async def verify(
        self,
        adapter: Path | None,
        items: Sequence[VerifyItem],
        *,
        against_base: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[VerifyRow]:
        self._begin()
        self.n_base_readings += adapter is None
        key = None if adapter is None else await self._load(adapter)
        rows = []
        for index, item in enumerate(items):
            rows.append(await asyncio.to_thread(self._verify, item, key, against_base))
            if on_progress:
                on_progress(index + 1, len(items))
        return rows

    async def continue_from(
        self,
        adapter: Path | None,
        items: Sequence[ContinueItem],
        *,
        on_progress: OnProgress | None = None,
    ) -> list[Generated]:
        self._begin()
        key = None if adapter is None else await self._load(adapter)
        done = []
        for index, item in enumerate(items):
            done.append(await asyncio.to_thread(self._continue, item, key))
            if on_progress:
                on_progress(index + 1, len(items))
        return done

    async def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        self._begin()
        return [self._tokenizer.decode(list(ids), skip_special_tokens=True) for ids in token_ids]

    async def close(self) -> None:
        self.is_closed = True

    def _begin(self) -> None:
        self.n_requests += 1
        if self.absences_left:
            self.absences_left -= 1
            raise ReferenceUnavailable(reason="no node takes it")
        if self.failures_left:
            self.failures_left -= 1
            raise ReferenceFailed(reason="a test wants it so")

    def _token_ids(self, item: SuitePrompt) -> list[int]:
        text = item.prompt
        if text is None:
            text = self._tokenizer.apply_chat_template(
                item.messages, tools=item.tools, add_generation_prompt=True, tokenize=False
            )
        return list(self._tokenizer(text).input_ids)

    async def _load(self, adapter: Path) -> str:
        weights = (adapter / "adapter_model.safetensors").read_bytes()
        key = "r" + hashlib.sha256(weights).hexdigest()[:24]
        try:
            await asyncio.to_thread(self._model.load, adapter, key)
        except LoadRefused as exc:
            raise StrictLoadFailed(missing=[], unexpected=[str(exc)]) from exc
        return key

    def _effect(self, prompt: TokenizedPrompt, key: str) -> EffectRow:
        ours = self._model.read(prompt.token_ids, key=key)
        if not bool(torch.isfinite(ours).all()):
            return EffectRow(prompt.case_id, is_finite=False)
        base = self._model.read(prompt.token_ids, key=None)
        own = torch.tensor(prompt.token_ids[1:]).unsqueeze(1)
        delta = (ours[:-1].gather(1, own) - base[:-1].gather(1, own)).abs().mean()
        return EffectRow(prompt.case_id, is_finite=True, mean_nats=float(delta), last_nats=0.0)

    def _continue(self, item: ContinueItem, key: str | None) -> Generated:
        tokens, logprobs = list(item.token_ids), []
        for _ in range(item.n):
            best = self._model.read(tokens, key=key)[-1].max(dim=-1)
            tokens.append(int(best.indices))
            logprobs.append(float(best.values))
        new = tokens[len(item.token_ids) :]
        return Generated(tuple(new), tuple(logprobs), self._tokenizer.decode(new))

    def _verify(self, item: VerifyItem, key: str | None, against_base: bool) -> VerifyRow:
        tokens = [*item.prompt_token_ids, *item.token_ids]
        start, own = len(item.prompt_token_ids) - 1, torch.tensor(item.token_ids).unsqueeze(1)

        def of(which: str | None) -> torch.Tensor:
            return self._model.read(tokens, key=which)[start:-1]

        ours = of(key)
        best = ours.max(dim=-1)
        base = of(None).gather(1, own).squeeze(1).tolist() if against_base else None
        return VerifyRow(
            item.case_id,
            is_finite=True,
            argmax_ids=tuple(best.indices.tolist()),
            argmax_logprobs=tuple(best.values.tolist()),
            token_logprobs=tuple(ours.gather(1, own).squeeze(1).tolist()),
            base_token_logprobs=None if base is None else tuple(base),
        )
