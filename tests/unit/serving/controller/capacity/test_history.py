from __future__ import annotations

from typing import Any

import msgspec

from serving.controller.capacity.history import Steps, make_history
from serving.controller.capacity.sampling import Sample

NOW = 1_700_000_000.0


def a_sample(
    engine: str, at: int, adapters: dict[str, list[int]] | None = None, **more: Any
) -> tuple[str, int, str]:
    adapters = adapters or {}
    total = [0] * 5
    for values in adapters.values():
        for place, value in enumerate(values):
            total[place] += value
    given = {"total": total, "adapters": adapters, "other": [0] * 5, "active": [], "hot_1m": 2}
    sample = Sample(**{**given, **more})
    return engine, at, msgspec.json.encode(sample).decode()


def test_steps_are_whole_intervals_and_end_with_the_present() -> None:
    steps = Steps.covering(3600, 120, NOW)

    assert (steps.seconds, steps.n) == (30, 120)
    assert steps.start + steps.n * steps.seconds > NOW >= steps.start + 119 * steps.seconds
    assert Steps.covering(60, 500, NOW).seconds == 10


def test_a_step_sums_its_samples_and_one_without_is_null() -> None:
    steps = Steps(start=1000, seconds=20, n=3)
    samples = [
        a_sample("engine-0", 1000, {"acme/a@1": [3, 1]}, active=["acme/a@1"]),
        a_sample("engine-0", 1010, {"acme/a@1": [4]}, active=[]),
        a_sample("engine-0", 1040, {"acme/b@1": [1, 0, 2]}, active=["acme/b@1", "acme/a@1"]),
        a_sample("engine-0", 980, {"acme/a@1": [100]}),
    ]

    history = make_history(samples, steps, n_adapters=5)

    assert history.times == [1000.0, 1020.0, 1040.0]
    engine = history.engines["engine-0"]
    assert (engine.requests, engine.loads_disk) == ([7, None, 1], [1, None, 0])
    assert (engine.loads_cache, engine.active) == ([0, None, 2], [0, None, 2])
    assert engine.hot_1m == [2, None, 2]
    first, second = history.adapters
    assert (first.name, first.requests, first.in_slot) == ("acme/a@1", [7, None, 0], [0.5, None, 1])
    assert (second.name, second.requests, second.in_slot) == (
        "acme/b@1", [0, None, 1], [0.0, None, 1.0],
    )  # fmt: skip


def test_an_adapter_is_in_a_slot_when_any_engine_holds_it() -> None:
    samples = [
        a_sample("engine-0", 1000, {"acme/a@1": [1]}, active=["acme/a@1"]),
        a_sample("engine-1", 1000, {"acme/a@1": [2]}),
    ]

    history = make_history(samples, Steps(start=1000, seconds=10, n=1), n_adapters=1)

    assert list(history.engines) == ["engine-0", "engine-1"]
    assert (history.adapters[0].requests, history.adapters[0].in_slot) == ([3], [1.0])


def test_the_busiest_adapters_are_shown() -> None:
    many = {f"acme/a@{n}": [n] for n in range(1, 9)}

    history = make_history(
        [a_sample("engine-0", 1000, many)], Steps(start=1000, seconds=10, n=1), n_adapters=2
    )

    assert [item.name for item in history.adapters] == ["acme/a@8", "acme/a@7"]
