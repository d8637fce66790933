"""The standalone model: base in transformers, one PEFT adapter at a time beside it, unmerged.

Everything that the gate believes about an adapter without the engine comes from here. The base
stays loaded; adapters are swapped. Results of the base are kept by content, since every candidate's
suite asks for the same ones.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from jinja2 import TemplateError

from adapters.errors import ReferenceFailed, StrictLoadFailed, SuiteInvalid
from adapters.parity.protocol import (
    BaseFacts,
    ContinueItem,
    EffectRow,
    FinitenessReport,
    Generated,
    MergeFacts,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
    VerifyRow,
)
from adapters.parity.reference_base_rows import BaseRows
from adapters.parity.reference_batches import Row
from adapters.parity.reference_forward import Scored, score_rows, stop_ids_of
from adapters.parity.reference_generate import Grown, Start, generate_greedily
from adapters.parity.reference_load import (
    CONFIG_FILE,
    TENSOR_FILE,
    LoadedAdapter,
    load_strictly,
    unload,
)
from adapters.parity.reference_merge import save_merged
from adapters.parity.reference_revision import base_revision

OnProgress = Callable[[int, int], None]
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "auto": "auto",
}


class Reference:
    """Holds one base and at most one adapter. Not thread-safe."""

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = device
        self._base: Any = None
        self._tokenizer: Any = None
        self._facts: BaseFacts | None = None
        self._asked: tuple[str, str] | None = None
        self._loaded: LoadedAdapter | None = None
        self._loaded_key: Hashable = None
        self._base_rows = BaseRows()

    def load_base(self, model: str, dtype: str) -> BaseFacts:
        """Load base and tokenizer; the same arguments again are answered from memory.

        Raises:
            ReferenceFailed: the dtype is unknown, or the folder holds no loadable model.
        """
        if self._facts is not None and self._asked == (model, dtype):
            return self._facts
        if dtype not in _DTYPES:
            raise ReferenceFailed(reason=f"dtype {dtype!r} is none of {', '.join(_DTYPES)}")
        self._forget_base()
        try:
            base = self._read_model(model, dtype)
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError, KeyError) as exc:
            raise ReferenceFailed(reason=f"the base {model} cannot be loaded: {exc}") from exc
        self._base = base
        self._asked = (model, dtype)
        self._facts = BaseFacts(
            model=model,
            revision=base_revision(base) or "quantized",
            dtype=str(base.dtype).removeprefix("torch."),
            n_parameters=sum(weight.numel() for weight in base.parameters()),
            versions=library_versions(),
            eos_token_ids=tuple(sorted(stop_ids_of(base))),
        )
        return self._facts

    def tokenize(
        self, prompts: Sequence[SuitePrompt], max_model_len: int | None = None
    ) -> list[TokenizedPrompt]:
        """Token ids of every prompt, through the base's chat template.

        Raises:
            SuiteInvalid: the template refuses a case, or prompt and answer are longer than
                `max_model_len`.
        """
        self._need_base()
        return [self._tokenize_one(prompt, max_model_len) for prompt in prompts]

    def check_finite(
        self,
        adapter: str,
        prompts: Sequence[TokenizedPrompt],
        on_progress: OnProgress | None = None,
    ) -> FinitenessReport:
        """Load strictly, then read every prompt with the adapter and without.

        Raises:
            StrictLoadFailed: see `reference_load.load_strictly`.
        """
        loaded = self._load(Path(adapter))
        report = _Steps(on_progress, total=2 * len(prompts))
        # What follows the prompt's last token is not given: there the base's own choice is scored.
        base = self._score_base([_prompt_row(item, last=0) for item in prompts], report)
        rows = [
            _prompt_row(item, last=alone.argmax_ids[-1] if alone.is_finite else 0)
            for item, alone in zip(prompts, base, strict=True)
        ]
        adapted = _score(loaded.model, rows, report)
        effects = [
            _effect(item.case_id, scored, alone)
            for item, scored, alone in zip(prompts, adapted, base, strict=True)
        ]
        return FinitenessReport(tuple(effects), loaded.modules)

    def verify(
        self,
        adapter: str | None,
        items: Sequence[VerifyItem],
        against_base: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[VerifyRow]:
        """Read prompt and answer of every item in one teacher-forced pass.

        Raises:
            StrictLoadFailed: see `reference_load.load_strictly`.
        """
        rows = [_answer_row(item) for item in items]
        passes = 1 + (against_base and adapter is not None)
        report = _Steps(on_progress, total=passes * len(items))
        if adapter is None:
            scored = self._score_base(rows, report)
            return [_verify_row(i, s, None) for i, s in zip(items, scored, strict=True)]
        loaded = self._load(Path(adapter))
        scored = _score(loaded.model, rows, report)
        base = self._score_base(rows, report) if against_base else [None] * len(rows)
        return [_verify_row(i, s, b) for i, s, b in zip(items, scored, base, strict=True)]

    def generate(self, adapter: str | None, prompt_token_ids: Sequence[int], n: int) -> Generated:
        """At most `n` greedy tokens after the prompt.

        Raises:
            StrictLoadFailed: see `reference_load.load_strictly`.
        """
        item = ContinueItem("", tuple(prompt_token_ids), n)
        return self.continue_from(adapter, [item])[0]

    def continue_from(
        self,
        adapter: str | None,
        items: Sequence[ContinueItem],
        on_progress: OnProgress | None = None,
    ) -> list[Generated]:
        """The greedy continuation of every item, in order; `text` is of the new tokens alone.

        Raises:
            StrictLoadFailed: see `reference_load.load_strictly`.
            ReferenceFailed: logits are not finite.
        """
        self._need_base()
        if adapter is not None:
            self._load(Path(adapter))
        report = _Steps(on_progress, total=len(items))
        model, context = self._model(is_bare=adapter is None)
        starts = [Start(item.token_ids, item.n) for item in items]
        with context:
            stops = stop_ids_of(model)
            grown = generate_greedily(model, starts, stop_ids=stops, on_done=report.advance)
        report.advance(len(starts) - len({item for item in starts if item.n > 0}))
        return [self._generated(item) for item in grown]

    def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """Answers as text, special tokens left out; one tokenizer for both sides' answers."""
        self._need_base()
        return [self._tokenizer.decode(list(i), skip_special_tokens=True) for i in token_ids]

    def merge(self, adapter: str, folder: str) -> MergeFacts:
        """Write the base with the adapter merged into it to `folder`, in the base's number type.

        Raises:
            StrictLoadFailed: see `reference_load.load_strictly`.
            ReferenceFailed: the folder cannot be written.
        """
        loaded = self._load(Path(adapter))
        return save_merged(loaded, Path(folder), tokenizer=self._tokenizer)

    def _generated(self, grown: Grown) -> Generated:
        text = self.decode([grown.token_ids])[0]
        return Generated(tuple(grown.token_ids), tuple(grown.logprobs), text)

    def _need_base(self) -> None:
        if self._base is None:
            raise ReferenceFailed(reason="no base is loaded")

    def _forget_base(self) -> None:
        self._base = self._tokenizer = self._facts = self._loaded = self._loaded_key = None
        self._base_rows.clear()

    def _read_model(self, model: str, dtype: str) -> Any:
        kind = transformers.AutoModelForCausalLM
        loaded = kind.from_pretrained(model, dtype=_DTYPES[dtype])
        return loaded.requires_grad_(False).eval().to(self._device)

    def _tokenize_one(self, prompt: SuitePrompt, limit: int | None) -> TokenizedPrompt:
        if prompt.messages is None:
            ids = self._tokenizer(prompt.prompt or "").input_ids
        else:
            ids = self._tokenizer(self._format(prompt), add_special_tokens=False).input_ids
        if not ids:
            raise _unusable(prompt, "prompt", "no token", "write a longer prompt")
        n_needed = len(ids) + prompt.max_tokens
        if limit is not None and n_needed > limit:
            problem = f"{len(ids)} tokens and {prompt.max_tokens} for the answer, limit {limit}"
            raise _unusable(prompt, "max_tokens", problem, "shorten the prompt or the answer")
        return TokenizedPrompt(prompt.case_id, tuple(ids), prompt.max_tokens)

    def _format(self, prompt: SuitePrompt) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                prompt.messages, tools=prompt.tools, add_generation_prompt=True, tokenize=False
            )
        except (ValueError, TypeError, KeyError, TemplateError) as exc:
            problem = f"the base's chat template refuses it: {exc}"
            raise _unusable(prompt, "messages", problem, "use prompt, or other roles") from exc
        return text

    def _load(self, folder: Path) -> LoadedAdapter:
        self._need_base()
        key = _content_key(folder)
        if self._loaded is not None and self._loaded_key == key:
            return self._loaded
        if self._loaded is not None:
            self._base, self._loaded, self._loaded_key = unload(self._loaded), None, None
        try:
            self._loaded = load_strictly(self._base, folder)
        finally:
            if self._loaded is None:
                self._restore_base()
        self._loaded_key = key
        return self._loaded

    def _restore_base(self) -> None:
        # Half an adapter may hang on the base: read it again, the cached results stay true.
        if self._asked is not None and _is_touched(self._base):
            self._base = self._read_model(*self._asked)

    def _model(self, *, is_bare: bool) -> tuple[Any, AbstractContextManager[Any]]:
        if self._loaded is None:
            return self._base, nullcontext()
        model = self._loaded.model
        return model, model.disable_adapter() if is_bare else nullcontext()

    def _score_base(self, rows: Sequence[Row], report: _Steps) -> list[Scored]:
        self._need_base()
        model, context = self._model(is_bare=True)
        with context:
            scored = self._base_rows.score(model, rows, on_done=report.advance)
        report.advance(len(rows) - len(set(rows)))  # equal rows are read once
        return scored


class _Steps:
    def __init__(self, on_progress: OnProgress | None, *, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def advance(self, n: int) -> None:
        self._done += n
        if self._on_progress is not None and n:
            self._on_progress(self._done, self._total)


def library_versions() -> dict[str, str]:
    """Versions of everything that computes on the standalone side."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def _score(model: Any, rows: Sequence[Row], report: _Steps) -> list[Scored]:
    scored = score_rows(model, rows, on_done=report.advance)
    report.advance(len(rows) - len(set(rows)))
    return scored


def _prompt_row(prompt: TokenizedPrompt, *, last: int) -> Row:
    return Row(prompt.token_ids, 0, (*prompt.token_ids[1:], last))


def _answer_row(item: VerifyItem) -> Row:
    tokens = item.prompt_token_ids + item.token_ids[:-1]
    return Row(tokens, len(item.prompt_token_ids) - 1, item.token_ids)


def _effect(case_id: str, adapted: Scored, base: Scored) -> EffectRow:
    if not adapted.is_finite or not base.is_finite:
        return EffectRow(case_id, adapted.is_finite and base.is_finite)
    expected = (*base.token_logprobs[:-1], base.argmax_logprobs[-1])
    deltas = [abs(a - b) for a, b in zip(adapted.token_logprobs, expected, strict=True)]
    return EffectRow(case_id, True, math.fsum(deltas) / len(deltas), deltas[-1])


def _verify_row(item: VerifyItem, scored: Scored, base: Scored | None) -> VerifyRow:
    return VerifyRow(
        case_id=item.case_id,
        is_finite=scored.is_finite,
        argmax_ids=scored.argmax_ids,
        argmax_logprobs=scored.argmax_logprobs,
        token_logprobs=scored.token_logprobs,
        base_token_logprobs=base.token_logprobs if base is not None and base.is_finite else None,
    )


def _content_key(folder: Path) -> Hashable:
    """Tells another content in the same folder apart without reading it."""
    try:
        stats = [(folder / name).stat() for name in (CONFIG_FILE, TENSOR_FILE)]
    except OSError as exc:
        raise StrictLoadFailed(problem=f"the adapter cannot be read: {exc}") from exc
    return str(folder), tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


def _is_touched(base: Any) -> bool:
    return hasattr(base, "peft_config") or any(hasattr(m, "lora_A") for m in base.modules())


def _unusable(prompt: SuitePrompt, field: str, problem: str, fix: str) -> SuiteInvalid:
    return SuiteInvalid(line=0, field=f"{prompt.case_id}.{field}", problem=problem, fix=fix)
