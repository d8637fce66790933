"""A real vLLM server as a judge: the client's contract with an endpoint that nobody made for it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from adapters.parity.comparison import ComparisonRules
from adapters.parity.judge_prompt import MAX_ANSWER_TOKENS, judge_messages
from serving.controller.judge_client import JudgeEndpoint
from serving.controller.steps.judging import ask_judges
from tests.builders.judged_texts import pairs_of, texts_of
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.engine
TEXTS = texts_of(*pairs_of(n_before=6))


async def test_a_model_that_knows_nothing_is_refused_as_a_judge_and_gives_no_verdict(
    fleet: Fleet, tenant: str
) -> None:
    key = await asyncio.to_thread(fleet.tenant, tenant, scopes=["inference", "base"])
    url = f"{fleet.engine_url}/v1"
    judges = [JudgeEndpoint(name, url, "base", key) for name in ("a", "b", "c")]

    outcome = await ask_judges(judges, TEXTS, rules=ComparisonRules(), timeout_seconds=120.0)

    # Asked to the end, and every answer was read as what it is: no vote.
    assert [judge.problem for judge in outcome.judges] == [None, None, None]
    assert [judge.n_questions for judge in outcome.judges] == [12, 12, 12]
    assert all(judge.is_refused for judge in outcome.judges)
    assert not outcome.is_usable
    assert (outcome.is_worse, outcome.total.n_dropped) == (None, 6)


async def test_the_request_is_one_that_the_server_takes(fleet: Fleet, tenant: str) -> None:
    key = await asyncio.to_thread(fleet.tenant, tenant, scopes=["inference", "base"])
    pair = TEXTS.pairs[0]
    body = {
        "model": "base",
        "messages": judge_messages(pair.question, pair.before, pair.after),
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
    }

    async with httpx.AsyncClient(timeout=60) as client:
        response = await client.post(
            f"{fleet.engine_url}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
        )

    assert response.status_code == 200, response.text
    assert isinstance(response.json()["choices"][0]["message"]["content"], str)


async def test_a_key_that_the_server_does_not_know_is_no_vote(fleet: Fleet) -> None:
    url = f"{fleet.engine_url}/v1"
    judges = [JudgeEndpoint(name, url, "base", "nobodys-key") for name in ("a", "b", "c")]

    outcome = await ask_judges(judges, TEXTS, rules=ComparisonRules(), timeout_seconds=120.0)

    assert {judge.problem for judge in outcome.judges} == {
        "judge_refused: it answered with status 401"
    }
    assert not outcome.is_usable
