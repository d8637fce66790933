"""The gate's client against a small real ASGI app: what counts as an answer, and what does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from hypothesis import given
from hypothesis import strategies as st

from serving.controller.gate_client import (
    Answer,
    AnswerMalformed,
    AnswerNotFinite,
    EngineCallError,
    EngineRefused,
    EngineUnreachable,
    GateClient,
    OtherModelAnswered,
    PlannedRequest,
    Prompt,
    plan_traffic,
)
from serving.controller.gate_pace import Pace

PROMPT = Prompt("case-1", (1, 2, 3), 4)


def completion(model: str, **choice: Any) -> JSONResponse:
    full = {"text": "hi", "token_ids": [7, 8], "logprobs": {"token_logprobs": [-0.5, 0.0]}}
    return JSONResponse({"model": model, "choices": [full | choice]})


def client_of(
    answer: Callable[[dict[str, Any], Request], Any], *, concurrency: int = 1
) -> GateClient:
    app = FastAPI()

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        result = answer(await request.json(), request)
        return await result if asyncio.iscoroutine(result) else result

    transport = httpx.ASGITransport(app=app)
    return GateClient(
        url="http://engine/", key="lp_gate_k", transport=transport, pace=Pace(concurrency)
    )


async def test_an_answer_has_its_tokens_and_logprobs() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def answer(body: dict[str, Any], request: Request) -> JSONResponse:
        seen.append((request.headers["authorization"], body))
        return completion(body["model"])

    async with client_of(answer) as client:
        found = await client.complete(model="acme/support@3", prompt=PROMPT)

    assert found == Answer((7, 8), (-0.5, 0.0), "hi")
    (key, body), *_ = seen
    assert key == "Bearer lp_gate_k"
    assert body["prompt"] == [1, 2, 3]
    assert (body["temperature"], body["return_token_ids"], body["max_tokens"]) == (0, True, 4)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_not_now_says_nothing_about_the_model(status: int) -> None:
    async with client_of(lambda *_: Response(status_code=status)) as client:
        with pytest.raises(EngineUnreachable):
            await client.complete(model="m", prompt=PROMPT)


async def test_a_refused_connection_is_unreachable() -> None:
    async with GateClient(url="http://127.0.0.1:1", key="k", timeout_seconds=5) as client:
        with pytest.raises(EngineUnreachable):
            await client.complete(model="m", prompt=PROMPT)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": 404}}', "404"),
        (b'{"code": "gone"}', "gone"),
        (b"not json", None),
        (b"[]", None),
        (b'{"error": "text"}', None),
    ],
)
async def test_an_error_of_the_engine_carries_status_and_code(
    body: bytes, code: str | None
) -> None:
    async with client_of(lambda *_: Response(body, status_code=404)) as client:
        with pytest.raises(EngineRefused) as caught:
            await client.complete(model="m", prompt=PROMPT)

    assert (caught.value.status, caught.value.engine_code) == (404, code)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (completion("base"), OtherModelAnswered),
        (Response(b"<html>"), AnswerMalformed),
        (JSONResponse({"model": "m", "choices": []}), AnswerMalformed),
        (completion("m", token_ids=None), AnswerMalformed),
        (completion("m", logprobs=None), AnswerMalformed),
        (completion("m", logprobs={"token_logprobs": [-0.5, None]}), AnswerMalformed),
        (completion("m", logprobs={"token_logprobs": [-0.5, -9999.0]}), AnswerNotFinite),
    ],
)
async def test_an_answer_that_is_none_is_refused(
    response: Response, error: type[EngineCallError]
) -> None:
    async with client_of(lambda *_: response) as client:
        with pytest.raises(error) as caught:
            await client.complete(model="m", prompt=PROMPT)

    assert caught.value.code == error.code


async def test_requests_in_flight_are_bounded_and_answers_sorted_by_repeat() -> None:
    in_flight, most = 0, 0

    async def answer(body: dict[str, Any], _request: Request) -> JSONResponse:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        in_flight -= 1
        return completion(body["model"], text=str(body["prompt"][0]))

    prompts = [Prompt(f"c{i}", (i,), 4) for i in range(6)]
    done: list[None] = []
    planned = plan_traffic(prompts, model="m", repeats=2, neighbours=["base", "other"])
    async with client_of(answer, concurrency=3) as client:
        answers = await client.answer_all(planned, on_answer=lambda: done.append(None))

    assert most == 3
    assert len(done) == 12
    assert {repeat: set(cases) for repeat, cases in answers.items()} == {
        repeat: {f"c{i}" for i in range(6)} for repeat in (0, 1)
    }
    assert all(cases[f"c{i}"].text == str(i) for cases in answers.values() for i in range(6))


async def test_while_tenants_are_busy_the_gate_sends_one_request_at_a_time_and_no_company() -> None:
    in_flight, most, asked = 0, 0, []

    async def answer(body: dict[str, Any], _request: Request) -> JSONResponse:
        nonlocal in_flight, most
        in_flight += 1
        asked.append(body["model"])
        if len(asked) > 6:  # after what was on its way when the first answer told of tenants
            most = max(most, in_flight)
        for _ in range(4):
            await asyncio.sleep(0)
        in_flight -= 1
        said = completion(body["model"])
        said.headers["x-loraplane-tenants-in-flight"] = "2"
        return said

    prompts = [Prompt(f"c{i}", (i,), 4) for i in range(12)]
    planned = plan_traffic(prompts, model="m", repeats=1, neighbours=["base"])
    async with client_of(answer, concurrency=4) as client:
        answers = await client.answer_all(planned)

    assert len(answers[0]) == 12
    assert most == 1
    assert asked.count("base") <= 4


async def test_a_neighbours_refusal_is_no_matter_but_the_models_own_ends_all() -> None:
    def answer(body: dict[str, Any], _request: Request) -> Response:
        return Response(status_code=404) if body["model"] != "m" else completion("m")

    mate = PlannedRequest("gone", PROMPT, repeat=None)
    own = PlannedRequest("m", PROMPT, repeat=0)
    async with client_of(answer) as client:
        answers = await client.answer_all([mate, own])
        assert list(answers[0]) == ["case-1"]
        with pytest.raises(EngineRefused):
            await client.answer_all([PlannedRequest("x", PROMPT, repeat=0)])


async def test_an_engine_that_goes_away_ends_all_whoever_asked() -> None:
    mate = PlannedRequest("base", PROMPT, repeat=None)
    async with client_of(lambda *_: Response(status_code=503)) as client:
        with pytest.raises(EngineUnreachable):
            await client.answer_all([mate])


@given(n=st.integers(1, 12), repeats=st.integers(1, 4), neighbours=st.lists(st.text(), max_size=4))
def test_every_prompt_is_planned_once_a_repeat_and_in_company(
    n: int, repeats: int, neighbours: list[str]
) -> None:
    prompts = [Prompt(f"c{i}", (i,), 20) for i in range(n)]

    planned = plan_traffic(prompts, model="the-model", repeats=repeats, neighbours=neighbours)

    own = Counter((item.prompt.case_id, item.repeat) for item in planned if item.repeat is not None)
    assert own == {(prompt.case_id, repeat): 1 for prompt in prompts for repeat in range(repeats)}
    mates = [item for item in planned if item.repeat is None]
    assert len(mates) == (n * repeats if neighbours else 0)
    assert {item.model for item in mates} <= set(neighbours)
    assert all(item.prompt.max_tokens <= 8 for item in mates)


def test_repeats_come_in_different_orders() -> None:
    prompts = [Prompt(f"c{i}", (i,), 4) for i in range(10)]

    planned = plan_traffic(prompts, model="m", repeats=3, neighbours=[])

    orders = [
        tuple(item.prompt.case_id for item in planned if item.repeat == repeat)
        for repeat in range(3)
    ]
    assert len(set(orders)) == 3
