"""The runner on an existing deployment, over real HTTP."""

import math
from contextlib import asynccontextmanager

import pytest

from adapters.errors import (
    RunnerAnswerInvalid,
    RunnerRefused,
    RunnerUnreachable,
    TokensUnavailable,
)
from adapters.parity.protocol import SuitePrompt, VerifyItem
from adapters.parity.runners.openai import OpenAiRunner
from tests.fakes.deployment import KEY, FakeDeployment, next_token
from tests.fakes.served import served

TOOL = {"type": "function", "function": {"name": "find", "parameters": {}}}
PROMPTS = [
    SuitePrompt("a", 4, messages=[{"role": "user", "content": "rain"}]),
    SuitePrompt("b", 4, prompt="plain"),
    SuitePrompt("c", 4, messages=[{"role": "user", "content": "find it"}], tools=[TOOL]),
]


@asynccontextmanager
async def opened(fake, **settings):
    async with served(fake.app) as url:
        runner = OpenAiRunner(**{"url": url, "model": "standalone", "key": KEY, **settings})
        async with runner.open() as session:
            yield session


async def test_messages_prompts_and_tool_calls_are_answered_in_order():
    seen = []
    async with opened(FakeDeployment()) as session:
        first, second, third = await session.answers(
            PROMPTS, on_progress=lambda *step: seen.append(step)
        )

    assert (first.case_id, first.text, first.tool_calls) == ("a", "about rain", None)
    assert (second.text, second.is_cut) == ("to plain", True)
    assert third.text == ""
    assert third.tool_calls[0]["function"]["name"] == "find"
    assert seen[-1] == (3, 3)


async def test_a_deployment_with_prompt_logprobs_verifies_tokens():
    own = [next_token(5)]
    own.append(next_token(own[0]))
    asked = [
        VerifyItem("same", (1, 5), tuple(own)),
        VerifyItem("other", (1, 5), (own[0], (own[1] + 1) % 11)),
        VerifyItem("none", (1, 5), ()),
    ]
    async with opened(FakeDeployment()) as session:
        same, other, none = await session.verify(asked)

        assert session.facts.can_verify_tokens
        assert session.facts.versions == {"deployment_model": "standalone-2026-01"}
        assert session.facts.notes == ()
    assert same.argmax_ids == tuple(own)
    assert same.token_logprobs == pytest.approx([math.log(0.7)] * 2)
    assert other.first_divergence(asked[1].token_ids) == 1
    assert other.argmax_ids == tuple(own)
    assert other.margin(1) == pytest.approx(math.log(70))
    assert none.is_finite


async def test_a_deployment_without_them_says_so_and_still_answers():
    async with opened(FakeDeployment(has_prompt_logprobs=False)) as session:
        with pytest.raises(TokensUnavailable):
            await session.verify([VerifyItem("a", (1,), (2,))])
        answers = await session.answers(PROMPTS)

        assert not session.facts.can_verify_tokens
        assert [note.code for note in session.facts.notes] == ["no_token_probabilities"]
    assert len(answers) == 3


async def test_a_server_without_a_tool_parser_is_asked_for_text():
    async with opened(FakeDeployment(refuses_tool_choice_auto=True)) as session:
        first, second = await session.answers([PROMPTS[2]] * 2)

        assert [note.code for note in session.facts.notes] == ["tool_calls_as_text"]
    assert first.text == second.text == "about find it"
    assert first.tool_calls is None


async def test_no_more_requests_are_in_flight_than_allowed():
    fake = FakeDeployment()
    async with opened(fake, concurrency=3) as session:
        await session.answers([PROMPTS[0]] * 20)

    assert fake.most_in_flight <= 3


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_not_now_is_unreachable_and_no_verdict(status):
    fake = FakeDeployment()
    async with opened(fake) as session:
        fake.statuses = [200, status]
        with pytest.raises(RunnerUnreachable):
            await session.answers([PROMPTS[0]] * 3)


async def test_a_server_that_is_not_there_is_unreachable():
    runner = OpenAiRunner(url="http://127.0.0.1:9/v1", model="standalone", key=KEY)

    with pytest.raises(RunnerUnreachable):
        async with runner.open():
            pass


async def test_a_wrong_key_is_refused_and_the_right_one_is_never_told():
    with pytest.raises(RunnerRefused) as refused:
        async with opened(FakeDeployment(), key="secret-of-mine"):
            pass

    assert refused.value.fields["status"] == 401
    assert "secret-of-mine" not in str(refused.value)


async def test_a_refused_case_is_named():
    fake = FakeDeployment()
    async with opened(fake, concurrency=1) as session:
        fake.statuses = [200, 413]
        with pytest.raises(RunnerRefused) as refused:
            await session.answers(PROMPTS)

    assert refused.value.fields["case_id"] == "b"


@pytest.mark.parametrize(
    "body", [{"model": "m"}, {"model": "m", "choices": []}, {"choices": [{"text": "x"}]}, [1]]
)
async def test_a_200_that_is_no_answer_is_not_taken_for_one(body):
    async with opened(FakeDeployment(malformed=body, answers_as=["m"])) as session:
        with pytest.raises(RunnerAnswerInvalid):
            await session.answers(PROMPTS[:1])


async def test_a_deployment_that_changes_its_model_meanwhile_is_noticed():
    fake = FakeDeployment(answers_as=["standalone-1", "standalone-2"])
    async with opened(fake) as session:
        with pytest.raises(RunnerAnswerInvalid, match="two models"):
            await session.answers(PROMPTS)
