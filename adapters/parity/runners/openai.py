"""Runner `openai`: an existing standalone deployment, asked over the OpenAI API.

The migration case: what tenants are served today is the reference. The deployment holds its own
weights; no adapter is sent to it. Where it gives prompt log probabilities for token ids, as vLLM
does, answers are verified token by token; otherwise its texts are all there is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from adapters.errors import RunnerRefused, TokensUnavailable
from adapters.parity.protocol import SuitePrompt, VerifyItem, VerifyRow
from adapters.parity.runners.openai_answers import read_answer, read_prompt_logprobs
from adapters.parity.runners.openai_http import Deployment
from adapters.parity.runners.protocol import (
    OnProgress,
    RunnerFacts,
    RunnerNote,
    StandaloneAnswer,
)

_PROBE_TOKENS = (1, 2, 3)
"""Ids that every vocabulary has; what they mean does not matter."""
_CANNOT = frozenset({400, 404, 405, 415, 422, 501})
"""Statuses by which a server says that it has no such request."""
_NO_TOKENS = RunnerNote(
    "no_token_probabilities",
    "Level 1 (numeric) is not available with this runner: the standalone deployment gives no "
    "log probabilities for given tokens. Answers and task scores decide.",
)
_NO_TOOL_PARSING = RunnerNote(
    "tool_calls_as_text",
    "The standalone deployment does not parse tool calls; they are read from its texts.",
)


class OpenAiRunner:
    """A deployment by URL, model name and key. The key is in no error, note or log."""

    name = "openai"

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str | None = None,
        concurrency: int = 4,
        timeout_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: with or without the final `/v1`.
            model: name of the standalone model there.
            key: bearer key; None: none is sent.
            concurrency: requests in flight at most.
            timeout_seconds: for one request.
            transport: another way than the network.
        """
        self._settings: dict[str, Any] = {
            "url": url.rstrip("/").removesuffix("/v1"),
            "model": model,
            "key": key,
            "concurrency": concurrency,
            "timeout_seconds": timeout_seconds,
            "transport": transport,
        }

    @asynccontextmanager
    async def open(self, adapter: Path | None = None) -> AsyncIterator[OpenAiSession]:
        """Find out what the deployment can do. `adapter` is not sent: it has its own weights.

        Raises:
            RunnerUnreachable, RunnerRefused, RunnerAnswerInvalid: it cannot be used.
        """
        del adapter
        async with Deployment(**self._settings) as deployment:
            yield OpenAiSession(
                deployment, name=self.name, can_verify=await can_verify_tokens(deployment)
            )


async def can_verify_tokens(deployment: Deployment) -> bool:
    """Whether the deployment gives log probabilities of the tokens of a prompt.

    Raises:
        RunnerUnreachable, RunnerRefused: it cannot be asked at all.
    """
    item = VerifyItem("", _PROBE_TOKENS[:1], _PROBE_TOKENS[1:])
    try:
        body = await deployment.post("/v1/completions", _verify_body(item), case_id=None)
    except RunnerRefused as exc:
        if exc.fields["status"] in _CANNOT:
            return False
        raise
    return read_prompt_logprobs(body, item) is not None


class OpenAiSession:
    """A deployment that answered."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        name: str,
        can_verify: bool,
        versions: dict[str, str] | None = None,
        notes: tuple[RunnerNote, ...] = (),
    ) -> None:
        self._deployment, self._name = deployment, name
        self._can_verify, self._versions, self._notes = can_verify, versions or {}, notes
        self._is_tool_choice_off = False

    @property
    def facts(self) -> RunnerFacts:
        """What the deployment was seen to do so far."""
        notes = list(self._notes)
        if not self._can_verify:
            notes.append(_NO_TOKENS)
        if self._is_tool_choice_off:
            notes.append(_NO_TOOL_PARSING)
        answered_as = self._deployment.answered_as
        named = {"deployment_model": answered_as} if answered_as is not None else {}
        return RunnerFacts(self._name, self._can_verify, {**self._versions, **named}, tuple(notes))

    async def answers(
        self, prompts: Sequence[SuitePrompt], *, on_progress: OnProgress | None = None
    ) -> list[StandaloneAnswer]:
        """Ask every case greedily: chat completions for messages, completions for prompts.

        Raises:
            RunnerUnreachable: no answer, or "not now": says nothing about anyone's answers.
            RunnerRefused: an error status.
            RunnerAnswerInvalid: a 200 that holds no answer, or of another model than before.
        """
        return await self._deployment.for_all(self._answer, prompts, on_progress=on_progress)

    async def verify(
        self, items: Sequence[VerifyItem], *, on_progress: OnProgress | None = None
    ) -> list[VerifyRow]:
        """Have the deployment read prompt and answer as one prompt, and tell its log probabilities.

        The deployment's token ids must be the base's: an existing deployment of the same base.

        Raises:
            TokensUnavailable: it gives none.
            RunnerUnreachable, RunnerRefused, RunnerAnswerInvalid: see `answers`.
        """
        if not self._can_verify:
            raise self._no_tokens()
        return await self._deployment.for_all(self._verify_one, items, on_progress=on_progress)

    async def _answer(self, prompt: SuitePrompt) -> StandaloneAnswer:
        common: dict[str, Any] = {"max_tokens": prompt.max_tokens, "temperature": 0}
        if self._can_verify:
            common["return_token_ids"] = True  # a server that knows the one knows the other
        if prompt.messages is None:
            path, body = "/v1/completions", {**common, "prompt": prompt.prompt}
        else:
            path, body = "/v1/chat/completions", {**common, "messages": prompt.messages}
            if prompt.tools:
                body["tools"] = prompt.tools
        reply = await self._ask(path, body, prompt.case_id)
        return read_answer(reply, case_id=prompt.case_id, url=self._deployment.url)

    async def _ask(self, path: str, body: dict[str, Any], case_id: str) -> Any:
        has_tools = "tools" in body
        if has_tools and self._is_tool_choice_off:
            body = {**body, "tool_choice": "none"}
        try:
            return await self._deployment.post(path, body, case_id=case_id)
        except RunnerRefused as exc:
            # vLLM without a tool parser refuses the default, "auto". With "none" the model still
            # sees the tools and answers in text, which is what is compared anyway.
            if not has_tools or "tool_choice" in body or exc.fields["status"] not in _CANNOT:
                raise
            reply = await self._deployment.post(
                path, {**body, "tool_choice": "none"}, case_id=case_id
            )
            self._is_tool_choice_off = True
            return reply

    async def _verify_one(self, item: VerifyItem) -> VerifyRow:
        if not item.token_ids:
            return VerifyRow(item.case_id, is_finite=True)
        body = await self._deployment.post(
            "/v1/completions", _verify_body(item), case_id=item.case_id
        )
        row = read_prompt_logprobs(body, item)
        if row is None:
            raise self._no_tokens()
        return row

    def _no_tokens(self) -> TokensUnavailable:
        return TokensUnavailable(runner=self._name, reason=_NO_TOKENS.code)


def _verify_body(item: VerifyItem) -> dict[str, Any]:
    # One token more is generated and dropped: servers do not take zero.
    return {
        "prompt": list(item.prompt_token_ids + item.token_ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 1,
    }
