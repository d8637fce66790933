"""What controller and standalone process say to each other: JSON lines, one request at a time.

A request is `{"id", "op", "args"}`; it is answered by any number of `{"id", "progress"}` lines and
one `{"id", "result"}` or `{"id", "error": {"code", "fields"}}`. Torch-free: both sides read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

FAREWELL_ID = 0
"""Of a reply to no request: the process's last word before it leaves this client."""


class SuitePrompt(msgspec.Struct, frozen=True):
    """One case to be turned into token ids; exactly one of `messages` and `prompt` is set.

    `messages` go through the base's chat template (with `tools`), `prompt` is tokenised as it is,
    with the tokenizer's own special tokens, as `/v1/completions` does.
    """

    case_id: str
    max_tokens: int
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    prompt: str | None = None


class TokenizedPrompt(msgspec.Struct, frozen=True):
    """One case as both sides read it."""

    case_id: str
    token_ids: tuple[int, ...]
    max_tokens: int


class VerifyItem(msgspec.Struct, frozen=True):
    """An answer to be read with teacher forcing: is each token what the standalone model says?"""

    case_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


class VerifyRow(msgspec.Struct, frozen=True):
    """The standalone model's view of one answer; lists have one entry per answer token.

    Log probabilities are natural, from float32 logits. Where `is_finite` is False the lists are
    empty: numbers of a poisoned forward pass say nothing.
    """

    case_id: str
    is_finite: bool
    argmax_ids: tuple[int, ...] = ()
    argmax_logprobs: tuple[float, ...] = ()
    token_logprobs: tuple[float, ...] = ()
    """Of the answer's own tokens; the margin of a divergence is argmax minus this."""
    base_token_logprobs: tuple[float, ...] | None = None
    """The same without the adapter; only when `against_base` was asked."""

    def margin(self, position: int) -> float:
        """Nats by which the standalone model prefers its own token at `position`; 0 where equal."""
        return self.argmax_logprobs[position] - self.token_logprobs[position]

    def first_divergence(self, token_ids: Sequence[int]) -> int | None:
        """First position where the answer that was read is not the standalone model's choice.

        Raises:
            ValueError: the row is not of this answer (another length).
        """
        if not self.is_finite:
            return None
        pairs = zip(self.argmax_ids, token_ids, strict=True)
        return next((i for i, (own, read) in enumerate(pairs) if own != read), None)


class ContinueItem(msgspec.Struct, frozen=True):
    """Tokens to go on from: a prompt and what is already known of the answer to it."""

    case_id: str
    token_ids: tuple[int, ...]
    n: int
    """At most so many more tokens."""


class EffectRow(msgspec.Struct, frozen=True):
    """One prompt, read once by the base and once with the adapter; no engine involved.

    `mean_nats`: mean |delta logprob| over the prompt's own tokens; `last_nats`: |delta logprob| of
    the base's choice for the first answer token. None where a value is not finite.
    """

    case_id: str
    is_finite: bool
    mean_nats: float | None = None
    last_nats: float | None = None


class ModuleFacts(msgspec.Struct, frozen=True):
    """One adapted module as the standalone side really applies it."""

    module: str
    scaling: float
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]
    a_sha256: str
    b_sha256: str
    use_rslora: bool = False
    """The config's flag: tells a lost flag from an alpha that happens to have the same effect."""


class FinitenessReport(msgspec.Struct, frozen=True):
    """Outcome of reading all prompts alone, before any engine sees the adapter."""

    effects: tuple[EffectRow, ...]
    modules: tuple[ModuleFacts, ...]
    """From the strictly loaded adapter: what `fingerprint_file.check_fingerprint` compares."""

    @property
    def non_finite_cases(self) -> tuple[str, ...]:
        """Cases whose logits hold NaN or infinity; any of them is a FAIL."""
        return tuple(row.case_id for row in self.effects if not row.is_finite)


class BaseFacts(msgspec.Struct, frozen=True):
    """The loaded base. `revision` hashes sampled weights, so it names content, not a label."""

    model: str
    revision: str
    dtype: str
    n_parameters: int
    versions: dict[str, str]
    eos_token_ids: tuple[int, ...] = ()


class Generated(msgspec.Struct, frozen=True):
    """The standalone model's own greedy continuation, to the end of sequence or n tokens."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str


class MergeFacts(msgspec.Struct, frozen=True):
    """What merging an adapter into a copy of the base did to the model.

    `lost_fraction` is the share of the adapter's own contribution that the saved number type
    rounded away: ||saved - exact|| / ||exact - base|| over all merged weights (Frobenius norms,
    float32). 0 where nothing was lost; None for an adapter that changes nothing.
    """

    folder: str
    dtype: str
    n_modules: int
    lost_fraction: float | None
    is_exact: bool
    """Saved in float32 from a float32 base: the two models differ in summation order alone."""


class Request(msgspec.Struct, frozen=True):
    """One line to the process."""

    id: int
    op: str
    args: dict[str, Any]


class Failure(msgspec.Struct, frozen=True):
    """A typed error on its way back: `code` and the constructor's fields of an `AdapterError`."""

    code: str
    fields: dict[str, Any]


class Progress(msgspec.Struct, frozen=True):
    """`done` of `total` prompts of the running request."""

    done: int
    total: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the process: progress, a result or an error."""

    id: int
    progress: Progress | None = None
    result: Any = None
    error: Failure | None = None
