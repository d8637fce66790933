"""Shapes ask for what they say: rates, order, classes, lengths, popularity; the same for a seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.profile import EngineProfile
from serving.tuning.arrival_processes import Bursts, Diurnal, Poisson, Process, Uniform
from serving.tuning.goals import Goals
from serving.tuning.lengths import Between, Fixed, Length, Lognormal
from serving.tuning.load_shape import AdapterMix, RequestClass, ShapeSpec
from serving.tuning.shapes import BUILT_IN
from serving.tuning.tune_task import Task, shape_digest

SHORT = RequestClass("short", Fixed(20), Fixed(24))
RATES = st.floats(0.1, 100)
PROCESSES = st.one_of(
    st.builds(Poisson, RATES),
    st.builds(Uniform, RATES),
    st.builds(Bursts, RATES, st.floats(0.5, 10), st.floats(0, 20)),
    st.builds(Diurnal, RATES, st.floats(1, 60), st.floats(0, 1)),
)
LENGTHS = st.one_of(
    st.builds(Fixed, st.integers(1, 2000)),
    st.integers(1, 500).flatmap(
        lambda low: st.builds(Between, st.just(low), st.integers(low, 900))
    ),
    st.builds(Lognormal, st.floats(1, 500), st.floats(0, 2), st.integers(1, 2000)),
)
CLASSES = st.builds(
    lambda prompt, output, every: (
        dataclasses.replace(SHORT, prompt=prompt, output=output),
        RequestClass("long", Fixed(1500), Fixed(8), every=every),
    ),
    LENGTHS, LENGTHS, st.integers(1, 20),
)  # fmt: skip
SPECS = st.builds(
    ShapeSpec,
    name=st.just("any"),
    process=PROCESSES,
    classes=CLASSES,
    adapters=st.builds(AdapterMix, st.integers(1, 40), st.floats(0, 3)),
    requests=st.integers(0, 60),
)
SEEDS = st.integers(0, 2**32)


def times_of(process: Process, n: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(process.times(np.random.default_rng(seed)), n))


@settings(max_examples=40)
@given(SPECS, SEEDS)
def test_a_shape_is_the_same_for_the_same_seed_and_in_order(spec: ShapeSpec, seed: int) -> None:
    shape = spec.draw(seed)

    assert shape == spec.draw(seed)
    times = [arrival.at for arrival in shape.arrivals]
    assert times == sorted(times)
    assert all(at >= 0 for at in times)
    assert len(times) == spec.requests
    assert shape.n_adapters <= spec.adapters.number


@settings(max_examples=40)
@given(SPECS, SEEDS, RATES)
def test_another_rate_asks_for_the_same_requests(spec: ShapeSpec, seed: int, rate: float) -> None:
    def without_times(one: ShapeSpec) -> list[tuple[object, ...]]:
        return [dataclasses.astuple(arrival)[1:] for arrival in one.draw(seed).arrivals]

    assert without_times(spec.with_rate(rate)) == without_times(spec)
    assert spec.with_rate(rate).process.rate == rate


@settings(max_examples=40)
@given(SPECS, SEEDS, st.floats(0.1, 20))
def test_no_request_is_due_after_the_end(spec: ShapeSpec, seed: int, seconds: float) -> None:
    ended = dataclasses.replace(spec, seconds=seconds).draw(seed)

    kept = [arrival.at for arrival in spec.draw(seed).arrivals if arrival.at < seconds]
    assert [arrival.at for arrival in ended.arrivals] == kept


@settings(max_examples=40)
@given(SPECS, SEEDS)
def test_each_nth_request_is_of_the_class_that_asks_for_it(spec: ShapeSpec, seed: int) -> None:
    every = spec.classes[1].every
    assert every is not None

    kinds = [arrival.kind for arrival in spec.draw(seed).arrivals]

    assert kinds == [
        "long" if number % every == 0 else "short" for number in range(1, len(kinds) + 1)
    ]


@given(LENGTHS, SEEDS)
def test_a_length_is_at_least_one_and_at_most_its_most(length: Length, seed: int) -> None:
    draw = np.random.default_rng(seed)

    assert all(1 <= length.draw(draw) <= length.most for _ in range(20))


@pytest.mark.parametrize(
    "process", [Poisson(5), Bursts(5, 2, 6), Diurnal(5, 10, 0.9), Diurnal(5, 10, 1.0)], ids=repr
)
def test_the_mean_rate_is_the_one_asked_for(process: Process) -> None:
    times = times_of(process, 8000)

    # A Poisson count of 8000 has a standard deviation of 1.1 %; bursts add a part of a period.
    assert len(times) / times[-1] == pytest.approx(5, rel=0.04)


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(times_of(Poisson(4), 8001))

    assert gaps.mean() == pytest.approx(1 / 4, rel=0.04)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.04)
    # Of an exponential, 1/e of all is above the mean.
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_uniform_arrivals_are_equally_far_apart() -> None:
    assert times_of(Uniform(4), 4) == [0, 0.25, 0.5, 0.75]


@given(st.floats(0.5, 10), st.floats(0.5, 20), SEEDS)
def test_nothing_is_due_between_bursts(on: float, off: float, seed: int) -> None:
    times = times_of(Bursts(3, on, off), 50, seed)

    # The product of a period and its number is not exact.
    assert all(at % (on + off) <= on + 1e-9 or at % (on + off) >= on + off - 1e-9 for at in times)


def test_a_day_is_as_busy_as_its_sine_at_each_hour() -> None:
    day = Diurnal(10, period_seconds=20, swing=0.8)
    times = np.array(times_of(day, 20000))
    n_days = times[-1] // 20

    counts, edges = np.histogram(times[times < 20 * n_days] % 20, bins=10, range=(0, 20))

    middles = (edges[:-1] + edges[1:]) / 2
    wanted = [day.rate_at(at) * 2 * n_days for at in middles]
    assert counts == pytest.approx(np.array(wanted), rel=0.12)


def test_adapters_are_asked_for_by_zipfs_law() -> None:
    spec = ShapeSpec("zipf", Poisson(1), (SHORT,), AdapterMix(10, 1.0), requests=20000)

    counts = Counter(arrival.adapter for arrival in spec.draw(3).arrivals)

    harmonic = sum(1 / k for k in range(1, 11))
    for adapter in range(10):
        expected = 20000 / (adapter + 1) / harmonic
        assert counts[adapter] == pytest.approx(expected, abs=4 * expected**0.5)


@given(st.integers(1, 200), st.floats(0, 3))
def test_shares_sum_to_one_and_never_rise(number: int, zipf: float) -> None:
    shares = AdapterMix(number, zipf).shares

    assert sum(shares) == pytest.approx(1)
    assert list(shares) == sorted(shares, reverse=True)


def test_weights_are_shares_of_the_requests_that_no_every_takes() -> None:
    classes = (
        dataclasses.replace(SHORT, kind="a", weight=3.0),
        dataclasses.replace(SHORT, kind="b", weight=1.0),
        dataclasses.replace(SHORT, kind="c", every=5),
    )
    spec = ShapeSpec("mixed", Uniform(1), classes, requests=10000)

    counts = Counter(arrival.kind for arrival in spec.draw(0).arrivals)

    assert counts["c"] == 2000
    assert counts["a"] / counts["b"] == pytest.approx(3, rel=0.1)


def test_the_median_of_lognormal_lengths_is_the_one_asked_for() -> None:
    draw = np.random.default_rng(0)
    drawn = [Lognormal(200, 1.0, 10**6).draw(draw) for _ in range(8000)]

    assert np.median(drawn) == pytest.approx(200, rel=0.05)
    assert np.std(np.log(drawn)) == pytest.approx(1.0, rel=0.05)


def test_both_ends_of_a_range_occur() -> None:
    draw = np.random.default_rng(0)

    assert {Between(3, 5).draw(draw) for _ in range(100)} == {3, 4, 5}


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_shape_has_requests(name: str) -> None:
    shape = BUILT_IN[name].draw(0)

    assert BUILT_IN[name].name == name
    assert 30 <= len(shape.arrivals) <= 200
    assert shape.longest <= 2048
    assert shape.offered_tokens_per_second > 0


def test_the_long_prefill_mix_has_a_long_prompt_in_each_ten() -> None:
    shape = BUILT_IN["long-prefill"].draw(0)

    sizes = Counter((one.kind, one.n_prompt, one.n_output) for one in shape.arrivals)
    assert sizes == {("short", 20, 24): 54, ("long", 1500, 24): 6}


def test_a_round_is_another_one_where_its_prompts_share_another_beginning() -> None:
    spec = BUILT_IN["poisson"]
    (request,) = spec.classes
    shared = dataclasses.replace(spec, classes=(dataclasses.replace(request, shared_prefix=8),))

    digests = [
        shape_digest(Task(EngineProfile(model="m"), one.draw, Goals("gap_p99")))
        for one in (spec, spec, shared)
    ]

    assert digests[0] == digests[1] != digests[2]
