"""The gate's judge stage: asks the configured judges about free-text answers.

Each judge's self-consistency comes first; who is refused there is not asked on, and with fewer than
two left nobody is. A judge counts with all its votes or not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from adapters.parity.comparison import ComparisonRules
from adapters.parity.judge_outcome import MIN_ACCEPTED, MIN_JUDGES, JudgeOutcome
from adapters.parity.judge_prompt import judge_messages
from adapters.parity.judging import (
    FreeTexts,
    Question,
    Seat,
    conclude_votes,
    free_texts,
    plan_rest,
    plan_sample,
    vote_of,
)
from adapters.parity.task_measure import TaskInputs
from serving.controller.judge_client import JudgeCallError, JudgeClient, JudgeEndpoint
from serving.controller.steps.context import StepContext
from serving.controller.steps.stages import Stages

OnProgress = Callable[[int, int], None]


async def judge_stage(
    context: StepContext,
    task: TaskInputs,
    stages: Stages,
    *,
    rules: ComparisonRules,
    is_builtin: bool,
    parts: Mapping[str, Any],
) -> JudgeOutcome:
    """What the judges say of this attempt's answers; kept, so that a restart asks nobody again.

    The built-in probe suite is not judged: its prompts are no requests that can be served better.
    """
    texts = FreeTexts() if is_builtin else free_texts(task)
    asked = {
        **parts,
        "judges": [[judge.name, judge.url, judge.model] for judge in context.judges],
        "texts": _digest(texts),
        "rules": [rules.margin, rules.confidence, rules.seed],
    }
    return await stages.once(
        "judge",
        asked,
        JudgeOutcome,
        lambda: ask_judges(
            context.judges,
            texts,
            rules=rules,
            timeout_seconds=context.settings.gate_timeout_seconds,
            on_progress=lambda done, total: stages.progress("judge", done, total),
        ),
        is_for_all=False,
    )


async def ask_judges(
    judges: Sequence[JudgeEndpoint],
    texts: FreeTexts,
    *,
    rules: ComparisonRules,
    timeout_seconds: float,
    on_progress: OnProgress | None = None,
    **client_options: Any,
) -> JudgeOutcome:
    """Ask the judges, first for their self-consistency. Their failures are part of the outcome.

    A judge that has not answered everything within `timeout_seconds` of the start does not count.
    `client_options` go to each `JudgeClient`.
    """
    seats = {judge.name: Seat(judge.name, judge.host, judge.model) for judge in judges}
    if len(judges) < MIN_JUDGES or not texts.pairs:
        return conclude_votes(texts, list(seats.values()), rules=rules)
    async with AsyncExitStack() as stack:
        clients = {
            judge.name: await stack.enter_async_context(JudgeClient(judge, **client_options))
            for judge in judges
        }
        panel = _Panel(
            clients, seats, texts=texts, timeout_seconds=timeout_seconds, on_progress=on_progress
        )
        sample = plan_sample(texts.pairs, seed=rules.seed)
        await panel.ask(dict.fromkeys(clients, sample))
        accepted = panel.accepted
        if len(accepted) >= MIN_ACCEPTED:
            await panel.ask(plan_rest(texts.pairs, accepted, seed=rules.seed))
        return conclude_votes(texts, list(panel.seats.values()), rules=rules)


class _Panel:
    """The judges of one evaluation and what they have said so far."""

    def __init__(
        self,
        clients: Mapping[str, JudgeClient],
        seats: Mapping[str, Seat],
        *,
        texts: FreeTexts,
        timeout_seconds: float,
        on_progress: OnProgress | None,
    ) -> None:
        self.seats = dict(seats)
        self._timeout_seconds = timeout_seconds
        self._deadline = asyncio.get_running_loop().time() + timeout_seconds
        self._clients, self._on_progress = clients, on_progress
        self._pairs = {pair.case_id: pair for pair in texts.pairs}
        self._done = self._total = 0

    @property
    def accepted(self) -> list[str]:
        """Names of the judges whose votes count so far."""
        return [name for name, seat in self.seats.items() if seat.record.is_accepted]

    async def ask(self, questions: Mapping[str, Sequence[Question]]) -> None:
        """Put each judge's questions to it, all judges at once."""
        self._total += sum(map(len, questions.values()))
        names = [name for name in questions if questions[name]]
        await asyncio.gather(*(self._ask_one(name, questions[name]) for name in names))

    async def _ask_one(self, name: str, questions: Sequence[Question]) -> None:
        seat = self.seats[name]
        asked = {question: self._messages(question) for question in questions}
        try:
            async with asyncio.timeout_at(self._deadline):
                choices = await self._clients[name].choose_all(asked, on_answer=self._count)
        except JudgeCallError as exc:
            self.seats[name] = replace(seat, problem=f"{exc.code}: {exc.detail}")
            return
        except TimeoutError:
            problem = f"judge_too_slow: not all was answered in {self._timeout_seconds:g} s"
            self.seats[name] = replace(seat, problem=problem)
            return
        votes = {question: vote_of(choice, question) for question, choice in choices.items()}
        self.seats[name] = replace(seat, answers={**seat.answers, **votes})

    def _messages(self, question: Question) -> list[dict[str, str]]:
        pair = self._pairs[question.case_id]
        texts = (pair.before, pair.after)
        first, second = texts if question.is_before_first else reversed(texts)
        return judge_messages(pair.question, first, second)

    def _count(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


def _digest(texts: FreeTexts) -> str:
    pairs = [[pair.case_id, pair.question, pair.before, pair.after] for pair in texts.pairs]
    content = json.dumps([pairs, dict(texts.n_equal_by_segment), texts.before_name], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
