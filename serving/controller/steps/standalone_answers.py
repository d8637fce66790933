"""The standalone side's answers from somewhere else than the local reference: the policy's runner.

The local reference still reads every answer (level 1); what the deployment or the merged model
says takes the place of its own text in levels 2 and 3.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.parity.policy import GatePolicy, Runner
from adapters.parity.protocol import SuitePrompt
from adapters.parity.runners.merged import MergedRunner
from adapters.parity.runners.openai import OpenAiRunner
from adapters.parity.runners.protocol import RunnerFacts, RunnerNote, StandaloneAnswer
from serving.controller.steps.asked import Asked
from serving.controller.steps.context import StepContext
from serving.controller.steps.stages import Stages

_DEPLOYMENT, _COMMAND = "deployment_unset", "merged_command_unset"
_PROCESS = "merged_needs_process"
_PROCESS_TEXT = (
    "runner merged: a merged model needs a folder that both sides see, which a Job has not: set "
    "LORAPLANE_REFERENCE_RUNNER=process, or another runner in the policy"
)


class RunnerUnset(Exception):
    """The policy wants a runner that cannot be had as configured; `code` is a stable slug."""

    def __init__(self, code: str, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(text)


async def answers_of_runner(
    context: StepContext,
    folder: Path,
    asked: Asked,
    stages: Stages,
    *,
    policy: GatePolicy,
    parts: Mapping[str, Any],
) -> tuple[dict[str, str], tuple[RunnerNote, ...]] | None:
    """Texts by case id and what a report must say of them; None: the local reference answers.

    `parts`: what the answers depend on, the number type under `dtype`.

    Raises:
        RunnerUnset: the runner is not configured, or cannot work as the reference is run.
        RunnerError, ReferenceFailed: it cannot be asked; no verdict about the adapter.
        StoreUnavailable: the store does not answer.
    """
    if policy.runner is Runner.PEFT:
        return None
    # In the case's number type: a merged model is made from the reference's base, which it reloads.
    runner = _runner(context, policy, dtype=str(parts["dtype"]))
    prompts = asked.suite.to_prompts()
    key = {
        **parts,
        "runner": policy.runner.value,
        "url": policy.deployment_url,
        "model": policy.deployment_model,
    }

    async def ask() -> tuple[list[StandaloneAnswer], RunnerFacts]:
        return await _ask(runner, folder, prompts, stages)

    answers, facts = await stages.once(
        "runner", key, tuple[list[StandaloneAnswer], RunnerFacts], ask, is_for_all=False
    )
    return {answer.case_id: text_of(answer) for answer in answers}, facts.notes


def text_of(answer: StandaloneAnswer) -> str:
    """One text: calls that a deployment has parsed are written as JSON again."""
    if not answer.tool_calls:
        return answer.text
    return json.dumps([call.get("function", call) for call in answer.tool_calls])


async def _ask(
    runner: OpenAiRunner | MergedRunner,
    folder: Path,
    prompts: Sequence[SuitePrompt],
    stages: Stages,
) -> tuple[list[StandaloneAnswer], RunnerFacts]:
    async with runner.open(folder) as session:
        answers = await session.answers(
            prompts, on_progress=lambda done, total: stages.progress("runner", done, total)
        )
        return answers, session.facts


def _runner(context: StepContext, policy: GatePolicy, *, dtype: str) -> OpenAiRunner | MergedRunner:
    settings = context.settings
    if policy.runner is Runner.OPENAI:
        if not policy.deployment_url or not policy.deployment_model:
            text = "runner openai: set deployment_url and deployment_model in the policy"
            raise RunnerUnset(_DEPLOYMENT, text)
        return OpenAiRunner(
            url=policy.deployment_url,
            model=policy.deployment_model,
            key=settings.deployment_key,
            concurrency=settings.gate_concurrency,
        )
    if not settings.merged_command:
        raise RunnerUnset(_COMMAND, "runner merged: set LORAPLANE_MERGED_COMMAND")
    if not context.reference.shares_files:
        raise RunnerUnset(_PROCESS, _PROCESS_TEXT)
    return MergedRunner(
        context.reference,
        model=str(settings.model),
        dtype=dtype,
        command=shlex.split(settings.merged_command),
        folder=settings.data_dir,
        concurrency=settings.gate_concurrency,
    )
