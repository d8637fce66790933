"""What every engine promises about capacity: its trace, its memory, the wishes it follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors import safe_open

from serving.contract import EngineWishes, TraceKind
from tests.builders.engine_fleet import GATE, PROMPT, Fleet

LOADS = "loraplane_adapter_loads_total"
SLOTS = 4
HOT = ["acme/hot1@1", "acme/hot2@1"]
SCANNED = [f"acme/scanned{index}@1" for index in range(6)]


def test_the_trace_tells_each_request_its_tokens_and_whose_it_was(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})
    fleet.settled("acme/support@1")
    begin = fleet.trace().end

    tokens = [
        fleet.ask(key, "acme/support@1", max_tokens=n_tokens).json()["usage"]
        for key, n_tokens in ((fleet.acme, 3), (GATE, 5), (fleet.acme, 7))
    ]
    fleet.ask(fleet.acme, "base")

    events = fleet.trace(begin).events
    admitted = [event for event in events if event.kind is TraceKind.ADMITTED]
    finished = {event.request: event for event in events if event.kind is TraceKind.FINISHED}
    assert [event.position for event in events] == list(range(begin, begin + 6))
    assert {event.adapter for event in events} == {"acme/support@1"}
    assert [event.is_gate for event in admitted] == [False, True, False]
    assert [
        (finished[event.position].prompt_tokens, finished[event.position].completion_tokens)
        for event in admitted
    ] == [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in tokens]
    fleet.engine.desired.wait_until(lambda report: report.trace_position >= begin + 6)


def test_the_trace_is_the_controllers_alone(fleet: Fleet) -> None:
    fleet.caught_up(fleet.publish())

    for key in (fleet.acme, GATE, "lp_nobody", ""):
        answer = fleet.trace_response(key)
        assert answer.status_code == 401
        assert "events" not in answer.text


def test_hot_wishes_are_followed_reported_and_taken_back(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), fleet.entry("globex/sql@2", seed=2))
    fleet.settled("globex/sql@2")
    engine_id = fleet.settled_report("acme/support@1").engine_id
    for key, name in ((fleet.acme, "acme/support@1"), (fleet.globex, "globex/sql@2")):
        fleet.answer(key, name)
    wished = EngineWishes(engine_id, hot=["acme/support@1", "acme/unknown@7"])
    foreign = EngineWishes("another-engine", hot=["globex/sql@2"])

    fleet.engine.desired.publish(residency=[wished, foreign])
    report = fleet.engine.desired.wait_until(lambda report: bool(report.pinned))
    revision = fleet.engine.desired.publish(residency=[])
    fleet.engine.desired.wait_until(lambda seen: seen.revision >= revision and not seen.pinned)

    assert report.pinned == ["acme/support@1"]


@pytest.mark.engine
def test_the_reported_memory_is_what_the_bases_shapes_need(real_fleet: Fleet) -> None:
    real_fleet.publish(real_fleet.entry("acme/support@1", seed=1))
    report = real_fleet.settled_report("acme/support@1")

    with safe_open(str(real_fleet.engine.base / "model.safetensors"), framework="pt") as weights:
        names = [name for name in weights.keys() if "_proj" in name]  # noqa: SIM118 - no dict
        shapes = [weights.get_slice(name).get_shape() for name in names]
    config = json.loads((real_fleet.engine.base / "config.json").read_text())
    heads, layers = config["num_key_value_heads"], config["num_hidden_layers"]
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]

    assert report.memory is not None
    n_bytes = 4
    assert report.memory.slot_bytes == sum(sum(shape) for shape in shapes) * 8 * n_bytes
    assert report.memory.kv_bytes_per_token == 2 * layers * heads * head_size * n_bytes
    kv_bytes = report.memory.kv_tokens * report.memory.kv_bytes_per_token
    assert 0.9 * 2**30 < kv_bytes <= 2**30


@pytest.mark.engine
def test_a_scan_evicts_hot_adapters_where_nobody_wished_them_kept_and_only_there(
    real_fleet: Fleet,
) -> None:
    engine_id = publish_scan(real_fleet)

    without = loads_of_hot(real_fleet)
    real_fleet.engine.desired.publish(residency=[EngineWishes(engine_id, hot=HOT)])
    touch(real_fleet, HOT)
    real_fleet.engine.desired.wait_until(lambda report: report.pinned == HOT)
    kept = loads_of_hot(real_fleet)
    revision = real_fleet.engine.desired.publish(residency=[])
    real_fleet.engine.desired.wait_until(lambda seen: seen.revision >= revision and not seen.pinned)
    afterwards = loads_of_hot(real_fleet)

    assert (without, kept, afterwards) == (6, 0, 6)


@pytest.mark.engine
def test_a_batch_that_needs_every_slot_gets_them_whatever_is_wished(real_fleet: Fleet) -> None:
    engine_id = publish_scan(real_fleet)
    alone = {name: real_fleet.answer(real_fleet.acme, name) for name in SCANNED}
    real_fleet.engine.desired.publish(
        residency=[EngineWishes(engine_id, hot=[*HOT, *SCANNED[:SLOTS], "acme/unknown@1"])]
    )
    touch(real_fleet, HOT)
    real_fleet.engine.desired.wait_until(lambda report: set(HOT) <= set(report.pinned))

    with ThreadPoolExecutor(len(SCANNED)) as pool:
        together = list(
            pool.map(lambda name: real_fleet.answer(real_fleet.acme, name), SCANNED * 3)
        )

    assert together == [alone[name] for name in SCANNED * 3]
    assert loads_in_step(real_fleet) == 0


@pytest.mark.engine
def test_time_in_a_slot_goes_on_while_an_adapter_holds_it(real_fleet: Fleet) -> None:
    publish_scan(real_fleet)
    touch(real_fleet, HOT)

    first = metric(real_fleet, "loraplane_adapter_slot_seconds_total", adapter=HOT[1])
    touch(real_fleet, [HOT[1]])
    second = metric(real_fleet, "loraplane_adapter_slot_seconds_total", adapter=HOT[1])

    assert metric(real_fleet, "loraplane_adapter_in_slot", adapter=HOT[1]) == 1
    assert second > first


@pytest.mark.engine
@pytest.mark.parametrize(
    "fields",
    [
        {"n": 3, "temperature": 1.0},
        {"prompt": [PROMPT, PROMPT[:3]]},
        {"prompt": [PROMPT, PROMPT[:3]], "n": 2, "temperature": 1.0},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
    ids=["samples", "prompts", "both", "stream"],
)
def test_the_trace_has_the_tokens_of_the_responses_usage(
    real_fleet: Fleet, fields: dict[str, Any]
) -> None:
    real_fleet.publish(real_fleet.entry("acme/support@1", seed=1))
    real_fleet.settled("acme/support@1")
    begin = real_fleet.trace().end

    with completion(real_fleet, max_tokens=4, **fields) as response:
        text = response.read().decode()
    usage = json.loads(text.rsplit('"usage":', 1)[1].partition("}")[0] + "}")

    admitted, finished = real_fleet.trace(begin).events
    assert (finished.kind, finished.request) == (TraceKind.FINISHED, admitted.position)
    assert finished.prompt_tokens == usage["prompt_tokens"]
    assert finished.completion_tokens == usage["completion_tokens"]
    assert finished.ttft_seconds is not None
    assert finished.ttft_seconds <= finished.at - admitted.at


@pytest.mark.engine
def test_an_aborted_request_and_one_that_is_refused_later_end_in_the_trace(
    real_fleet: Fleet,
) -> None:
    name = "acme/support@1"
    real_fleet.publish(real_fleet.entry(name, seed=1))
    real_fleet.settled(name)
    begin = real_fleet.trace().end

    with completion(real_fleet, prompt=[1] * 1000, max_tokens=4) as refused:
        assert refused.status_code == 400
    with completion(real_fleet, max_tokens=200, stream=True, ignore_eos=True) as answer:
        next(answer.iter_text())
    real_fleet.engine.desired.wait_until(lambda report: report.trace_position >= begin + 4)

    first, ended, second, aborted = real_fleet.trace(begin).events
    assert (ended.request, aborted.request) == (first.position, second.position)
    assert (ended.prompt_tokens, ended.completion_tokens) == (0, 0)
    assert (aborted.prompt_tokens, aborted.ttft_seconds is None) == (len(PROMPT), False)
    assert 0 < aborted.completion_tokens < 200
    requests = "loraplane_adapter_requests_total"
    assert metric(real_fleet, requests, adapter=name, outcome="abort") == 1


@contextmanager
def completion(fleet: Fleet, **fields: Any) -> Iterator[httpx.Response]:
    body = {"model": "acme/support@1", "prompt": PROMPT, "temperature": 0, **fields}
    headers = {"Authorization": f"Bearer {fleet.acme}"}
    url = f"{fleet.engine.url}/v1/completions"
    with (
        httpx.Client(timeout=60, trust_env=False) as client,
        client.stream("POST", url, json=body, headers=headers) as response,
    ):
        yield response


def publish_scan(fleet: Fleet) -> str:
    """Eight versions, all proven; the engine's id."""
    names = [*HOT, *SCANNED]
    fleet.publish(*(fleet.entry(name, seed=seed) for seed, name in enumerate(names, start=1)))
    (engine_id,) = {fleet.settled_report(name).engine_id for name in names}
    return engine_id


def touch(fleet: Fleet, names: list[str]) -> None:
    for name in names:
        fleet.answer(fleet.acme, name)


def loads_of_hot(fleet: Fleet) -> float:
    """Copies of the hot adapters into slots during three scans over everything else."""
    touch(fleet, HOT)
    before = [metric(fleet, LOADS, adapter=name, source="cache") for name in HOT]
    for _ in range(3):
        touch(fleet, [*SCANNED, *HOT])
    after = [metric(fleet, LOADS, adapter=name, source="cache") for name in HOT]
    return sum(after) - sum(before)


def loads_in_step(fleet: Fleet) -> float:
    return metric(fleet, "loraplane_adapter_loads_in_step")


def metric(fleet: Fleet, name: str, **labels: str) -> float:
    text = httpx.get(f"{fleet.engine.url}/metrics", timeout=60, trust_env=False).text
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]
