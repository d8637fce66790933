"""The client of one judge: what is a choice, what is none, and what is no answer at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.parity.judge_prompt import Choice, judge_messages
from serving.controller.judge_client import (
    JudgeClient,
    JudgeEndpoint,
    JudgeRefused,
    JudgeUnreachable,
)
from tests.fakes.judges import KEY, NOWHERE, FakeJudges, likes, prefers_first_place, talks
from tests.fakes.served import served

ASKED = judge_messages("Which?", "good", "bad")


@pytest.fixture
def judges() -> FakeJudges:
    return FakeJudges({"fair": likes("good"), "biased": prefers_first_place, "chatty": talks})


@pytest.fixture
async def fair(judges: FakeJudges) -> AsyncIterator[JudgeEndpoint]:
    async with served(judges.app) as url:
        yield judges.endpoints(url)[0]


def client_of(endpoint: JudgeEndpoint, **options: Any) -> JudgeClient:
    return JudgeClient(endpoint, **{"pauses": (0.0, 0.0), **options})


async def test_a_judge_names_the_better_answer_wherever_it_stands(fair: JudgeEndpoint) -> None:
    async with client_of(fair) as client:
        choices = [await client.choose(ASKED)]
        choices.append(await client.choose(judge_messages("Which?", "bad", "good")))

    assert choices == [Choice.FIRST, Choice.SECOND]


async def test_prose_is_no_choice(judges: FakeJudges) -> None:
    async with served(judges.app) as url, client_of(judges.endpoints(url)[2]) as client:
        assert await client.choose(ASKED) is Choice.INVALID


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"message": {"content": [{"text": '{"better": "A"}'}]}}]},
        {"choices": [{"text": '{"better": "A"}'}]},
        "no object",
    ],
)
async def test_another_kind_of_body_is_no_choice(
    judges: FakeJudges, fair: JudgeEndpoint, body: Any
) -> None:
    judges.body = body

    async with client_of(fair) as client:
        assert await client.choose(ASKED) is Choice.INVALID


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_question_that_cannot_be_asked_is_no_choice(
    judges: FakeJudges, fair: JudgeEndpoint, status: int
) -> None:
    judges.statuses["fair"] = [status]

    async with client_of(fair) as client:
        assert await client.choose(ASKED) is Choice.INVALID
        assert await client.choose(ASKED) is Choice.FIRST


async def test_not_now_is_asked_again(judges: FakeJudges, fair: JudgeEndpoint) -> None:
    judges.statuses["fair"] = [503, 429]

    async with client_of(fair) as client:
        assert await client.choose(ASKED) is Choice.FIRST


async def test_not_now_for_ever_is_unreachable(judges: FakeJudges, fair: JudgeEndpoint) -> None:
    judges.statuses["fair"] = [500, 502, 503]

    async with client_of(fair) as client:
        with pytest.raises(JudgeUnreachable) as caught:
            await client.choose(ASKED)

    assert str(caught.value) == "it answers with status 503"


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with client_of(JudgeEndpoint("j", NOWHERE, "m")) as client:
        with pytest.raises(JudgeUnreachable):
            await client.choose(ASKED)


async def test_a_judge_that_never_answers_is_unreachable(
    judges: FakeJudges, fair: JudgeEndpoint
) -> None:
    judges.is_silent = True

    async with client_of(fair, timeout_seconds=0.05, pauses=()) as client:
        with pytest.raises(JudgeUnreachable):
            await client.choose(ASKED)


@pytest.mark.parametrize("change", [{"api_key": "wrong"}, {"api_key": None}, {"model": "nobody"}])
async def test_a_judge_that_turns_us_away_is_told_apart(
    fair: JudgeEndpoint, change: dict[str, Any]
) -> None:
    async with client_of(replace(fair, **change)) as client:
        with pytest.raises(JudgeRefused) as caught:
            await client.choose(ASKED)

    assert caught.value.status in (401, 404)


async def test_no_more_questions_are_open_than_allowed(
    judges: FakeJudges, fair: JudgeEndpoint
) -> None:
    asked = {number: judge_messages(f"{number}?", "good", "bad") for number in range(20)}
    seen: list[None] = []

    async with client_of(fair, concurrency=3) as client:
        choices = await client.choose_all(asked, on_answer=lambda: seen.append(None))

    assert choices == dict.fromkeys(range(20), Choice.FIRST)
    assert 1 < judges.most_in_flight <= 3
    assert len(seen) == 20


async def test_the_first_failure_ends_the_asking(judges: FakeJudges, fair: JudgeEndpoint) -> None:
    judges.statuses["fair"] = [200, 200, 403]
    asked = dict.fromkeys(range(50), ASKED)

    async with client_of(fair, concurrency=1) as client:
        with pytest.raises(JudgeRefused):
            await client.choose_all(asked)

    assert judges.n_answered["fair"] == 2


async def test_half_of_a_surrogate_pair_can_be_asked_about(fair: JudgeEndpoint) -> None:
    async with client_of(fair) as client:
        choice = await client.choose(judge_messages("q\ud83d", "good", "bad"))

    assert choice is Choice.FIRST


def test_neither_key_nor_path_is_shown() -> None:
    endpoint = JudgeEndpoint("j", "https://judges.example:8443/secret-path/v1", "m", KEY)

    assert KEY not in repr(endpoint)
    assert endpoint.host == "judges.example:8443"
