"""The generator against a real socket: open loop, nothing forgiven, nothing lost."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.tuning import generator
from serving.tuning.arrival_processes import Poisson
from serving.tuning.generator import Model, Progress, Target, TargetInvalid, request_body, run_load
from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult
from tests.fakes.openai_server import OpenAiServer, openai_server


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with openai_server() as served:
        yield served


def target(server: OpenAiServer, *models: str, **choices: object) -> Target:
    named = tuple(Model(name, f"key-of-{name}") for name in models or ("plain",))
    return Target(server.url, named, **choices)  # type: ignore[arg-type]


def shape(n: int, *, every: float = 0.0, n_output: int = 3, n_adapters: int = 1) -> Shape:
    return Shape(
        "test",
        tuple(Arrival(k * every, 20 + k, n_output, k % n_adapters, "short") for k in range(n)),
    )


async def test_making_the_first_prompt_is_before_the_load(
    server: OpenAiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, late = time.perf_counter, [0.0]

    def slow(*arguments: Any, index: int, **choices: Any) -> bytes:
        late[0] += 60.0 if index == 0 else 0.0
        return request_body(*arguments, index=index, **choices)

    monkeypatch.setattr(generator, "request_body", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])

    result = await run_load(target(server), shape(2))

    assert max(result.lag()) < 30.0


async def test_each_request_is_asked_for_as_the_shape_says(server: OpenAiServer) -> None:
    result = await run_load(target(server, "plain", "second"), shape(4, n_adapters=2))

    assert result.n_failed == 0
    assert Counter((b["model"], len(b["prompt"])) for b in server.bodies) == {
        ("plain", 20): 1, ("second", 21): 1, ("plain", 22): 1, ("second", 23): 1,
    }  # fmt: skip
    assert {(b["max_tokens"], b["ignore_eos"], b["temperature"]) for b in server.bodies} == {
        (3, True, 0)
    }
    assert sorted(server.keys) == 2 * ["Bearer key-of-plain"] + 2 * ["Bearer key-of-second"]
    assert [(s.n_prompt, s.n_output, len(s.token_at)) for s in result.samples] == [
        (20 + k, 3, 3) for k in range(4)
    ]


async def test_times_of_a_sample_are_in_the_order_in_which_they_happen(
    server: OpenAiServer,
) -> None:
    result = await run_load(target(server), shape(5, every=0.005))

    for sample in result.samples:
        moments = [sample.due_at, sample.sent_at, *sample.token_at, sample.ended_at]
        assert moments == sorted(moments)
        assert sample.first_at == sample.token_at[0]


async def test_no_request_waits_for_another_ones_answer(server: OpenAiServer) -> None:
    # No answer comes before all requests are there: a limit on connections would never end.
    server.n_gathered = 150

    result = await run_load(target(server, "gather", timeout_seconds=60), shape(150))

    assert result.n_failed == 0


async def test_a_stall_is_in_the_latency_of_all_requests_that_were_due_in_it(
    server: OpenAiServer,
) -> None:
    # The last request ends the stall, 0.2 s after the first was due.
    server.n_gathered = 21

    result = await run_load(target(server, "gather"), shape(21, every=0.01))

    waited = result.ttft()
    assert len(waited) == 21
    assert all(waited >= 0.2 - np.arange(21) * 0.01)


async def test_the_generators_own_stall_is_in_the_latencies_and_told(server: OpenAiServer) -> None:
    def block_once(progress: Progress) -> None:
        if progress.n_sent == 1 and progress.n_done == 0:
            time.sleep(0.1)

    result = await run_load(target(server), shape(10, every=0.005), on_progress=block_once)

    # Nine were due within the 45 ms after the first, and nothing was sent for 100 ms.
    assert all(result.lag()[1:] >= 0.05)
    assert all(result.ttft() >= result.lag())


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        ("refuse", 503, "HTTP 503: no slot is free"),
        ("cut", 200, "ConnectionLost"),
        ("hang", 200, "no end after 0.2 s"),
        ("error", 200, "the engine died"),
    ],
)
async def test_a_failed_request_is_a_sample_with_its_reason(
    server: OpenAiServer, model: str, status: int, said: str
) -> None:
    result = await run_load(
        target(server, model, "plain", timeout_seconds=0.2 if model == "hang" else 30),
        shape(4, n_adapters=2),
    )

    failed = [sample for sample in result.samples if not sample.is_answered]
    assert [(sample.adapter, sample.status) for sample in failed] == [(0, status)] * 2
    assert all(said in str(sample.error) for sample in failed)
    assert len(result.ttft()) == 2


async def test_a_server_that_is_not_there_is_a_failure_without_a_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    result = await run_load(Target(f"http://127.0.0.1:{port}", (Model("m"),)), shape(3))

    assert [sample.status for sample in result.samples] == [0, 0, 0]
    assert result.n_failed == 3


async def test_chat_counts_tokens_and_not_the_role(server: OpenAiServer) -> None:
    choices = {"prompts": "words", "api": "chat", "ignore_eos": False}

    result = await run_load(target(server, **choices), shape(2))

    assert set(server.paths) == {"/v1/chat/completions"}
    assert all("ignore_eos" not in body for body in server.bodies)
    assert [(s.n_prompt, len(s.token_at), s.error) for s in result.samples] == [
        (20, 3, None), (21, 3, None),
    ]  # fmt: skip


async def test_progress_ends_with_all_requests_done(server: OpenAiServer) -> None:
    told: list[Progress] = []

    await run_load(
        target(server, "plain", "refuse"), shape(4, n_adapters=2), on_progress=told.append
    )

    last = told[-1]
    assert (last.n_requests, last.n_sent, last.n_done, last.n_failed) == (4, 4, 4, 2)
    assert last.n_in_flight == 0
    assert [one.n_done for one in told] == sorted(one.n_done for one in told)


async def test_an_empty_shape_asks_for_nothing(server: OpenAiServer) -> None:
    assert await run_load(target(server), Shape("empty", ())) == LoadResult(())


async def test_a_shape_of_more_adapters_than_models_is_refused(server: OpenAiServer) -> None:
    with pytest.raises(TargetInvalid, match="asks for 3 adapters"):
        await run_load(target(server), shape(3, n_adapters=3))


@pytest.mark.parametrize(
    "choices",
    [
        {"models": ()}, {"api": "chat"}, {"vocabulary": 1}, {"url": "127.0.0.1:80"},
        {"url": "http://"}, {"url": "http://host:port"}, {"url": "http://host/a b"}, {"url": "http://[::1"},
        {"models": (Model("m", "a\nb"),)},
    ],
    ids=str,
)  # fmt: skip
def test_a_target_that_cannot_be_asked_is_refused(choices: dict[str, object]) -> None:
    with pytest.raises(TargetInvalid):
        Target(**{"url": "http://127.0.0.1", "models": (Model("m"),), **choices})  # type: ignore[arg-type]


def test_poisson_arrivals_wait_as_long_as_queueing_theory_says() -> None:
    # One server of fixed service time s at load rho: the mean wait is s * rho / (2 * (1 - rho))
    # (Pollaczek and Khinchine); Lindley's recursion gives each wait.
    service, rho, n = 1.0, 0.5, 40_000
    draw = np.random.default_rng(11)
    gaps = np.diff(
        [at for at, _ in zip(Poisson(rho / service).times(draw), range(n), strict=False)]
    )

    waits = [0.0]
    for gap in gaps:
        waits.append(max(0.0, waits[-1] + service - gap))

    assert np.mean(waits) == pytest.approx(service * rho / (2 * (1 - rho)), rel=0.05)
