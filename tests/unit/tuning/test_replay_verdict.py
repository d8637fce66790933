"""What a few runs prove: relations that hold for any runs, and how often chance misleads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.parity.verdict import VerdictKind
from serving.tuning.replay_verdict import Judged, Rules, Runs, judge
from serving.tuning.slo import Slo, Slos

PASS, FAIL, OPEN = VerdictKind.PASS, VerdictKind.FAIL, VerdictKind.INCONCLUSIVE
milliseconds = st.lists(st.floats(1, 10_000), min_size=2, max_size=6)
limits = st.floats(1, 10_000)


def runs_of(
    candidate: list[float],
    current: list[float] | None = None,
    *,
    metric: str = "gap_p99",
    is_paired: bool = True,
    n_failed: int = 0,
) -> Runs:
    return Runs(
        {None: [{metric: value} for value in candidate]},
        None if current is None else {None: [{metric: value} for value in current]},
        is_paired,
        n_failed=n_failed,
        n_requests=10 * len(candidate),
    )


def verdict_at(limit: float, runs: Runs, *, metric: str = "gap_p99", n_looks: int = 1) -> Judged:
    slo = Slo(metric, limit, is_relative=runs.current is not None)
    return judge(Slos((slo,)), runs, Rules(n_looks=n_looks))


@given(milliseconds, limits, st.floats(1, 100))
def test_a_looser_limit_never_makes_a_verdict_worse(
    candidate: list[float], limit: float, looser: float
) -> None:
    order = [FAIL, OPEN, PASS]

    tight = verdict_at(limit, runs_of(candidate)).verdict
    loose = verdict_at(limit * looser, runs_of(candidate)).verdict

    assert order.index(loose) >= order.index(tight)


@given(milliseconds, limits, st.sampled_from([0.5, 2.0, 4.0]))
def test_the_unit_does_not_matter(candidate: list[float], limit: float, factor: float) -> None:
    assume(all(abs(math.log(value / limit)) > 1e-6 for value in candidate))

    here = verdict_at(limit, runs_of(candidate)).verdict
    there = verdict_at(limit * factor, runs_of([factor * value for value in candidate])).verdict

    assert here == there


@given(milliseconds, limits)
def test_throughput_is_judged_as_the_mirror_image_of_a_latency(
    values: list[float], limit: float
) -> None:
    latency = verdict_at(limit, runs_of(values)).verdict
    inverse = runs_of([1 / value for value in values], metric="throughput")

    assert verdict_at(1 / limit, inverse, metric="throughput").verdict == latency


@given(milliseconds, st.floats(0.5, 2), st.booleans())
def test_a_relative_goal_looks_at_the_ratio_alone(
    current: list[float], ratio: float, is_paired: bool
) -> None:
    candidate = [ratio * value for value in current]

    (found,) = verdict_at(1.25, runs_of(candidate, current, is_paired=is_paired)).findings

    assert found.figure == pytest.approx(ratio)
    assert found.low <= found.figure * (1 + 1e-9)
    assert found.high >= found.figure * (1 - 1e-9)


@given(milliseconds, limits)
def test_the_interval_has_the_figure_in_it_and_decides(values: list[float], limit: float) -> None:
    (found,) = verdict_at(limit, runs_of(values)).findings

    assert found.low <= found.figure * (1 + 1e-9)
    assert found.figure <= found.high * (1 + 1e-9)
    if found.verdict is PASS:
        assert found.high <= limit * (1 + 1e-9)
    if found.verdict is FAIL:
        assert found.low >= limit * (1 - 1e-9)


@given(st.lists(st.floats(1, 2), min_size=2, max_size=6), st.integers(0, 5))
def test_a_run_without_a_figure_leaves_the_goal_open(values: list[float], place: int) -> None:
    values[place % len(values)] = math.nan

    judged = verdict_at(10_000, runs_of(values))

    assert judged.verdict is OPEN
    assert "gap" in judged.reasons[0]


@pytest.mark.parametrize("n_runs", [0, 1])
def test_fewer_than_two_runs_prove_nothing(n_runs: int) -> None:
    judged = verdict_at(10_000, runs_of([5.0] * n_runs))

    assert judged.verdict is OPEN
    assert "at least two" in judged.reasons[0]


def test_unanswered_requests_fail_however_fast_the_others_were() -> None:
    judged = verdict_at(10_000, runs_of([5.0, 5.1, 5.2], n_failed=1))

    assert judged.verdict is FAIL
    assert judged.reasons == ("1 of 30 requests were not answered; at most a share of 0 may be",)


@pytest.mark.parametrize("candidate", [[5.0, 5.1, 5.2], [900.0, 901.0, 902.0]])
def test_a_current_one_that_leaves_requests_unanswered_is_no_measure(
    candidate: list[float],
) -> None:
    runs = replace(runs_of(candidate, [50.0, 50.1, 50.2]), n_failed_current=3)

    judged = verdict_at(1.25, runs)

    assert judged.verdict is OPEN
    assert "3 of the current one's requests were not answered" in judged.reasons[0]


def test_an_interval_that_no_number_holds_has_no_end() -> None:
    runs = runs_of([1.0, 1e300])

    (found,) = verdict_at(1e-300, runs).findings

    assert found.high == math.inf


def test_a_p99_of_a_class_that_lost_more_than_a_hundredth_is_not_known() -> None:
    runs = replace(runs_of([5.0, 5.1, 5.2], n_failed=1), failed_ratio={None: 0.02})
    tolerant = Slos((Slo("gap_p99", 10_000), Slo("gap_p50", 10_000)), 0.005)
    runs = replace(runs, n_requests=1000, candidate={None: [{"gap_p99": 5.0, "gap_p50": 5.0}] * 3})

    judged = judge(tolerant, runs, Rules())

    assert judged.verdict is OPEN
    assert [one.verdict for one in judged.findings] == [OPEN, PASS]
    assert "more than one in a hundred" in judged.reasons[0]


def test_one_goal_that_fails_fails_all_and_one_that_is_open_leaves_all_open() -> None:
    runs = runs_of([100.0, 101.0, 102.0])
    keeps, fails, is_open = Slo("gap_p99", 200), Slo("gap_p99", 50, "short"), Slo("ttft_p99", 9)
    both = Runs({None: runs.candidate[None], "short": runs.candidate[None]}, None, True, 0, 30)

    assert judge(Slos((keeps,)), both, Rules()).verdict is PASS
    assert judge(Slos((keeps, fails, is_open)), both, Rules()).verdict is FAIL
    assert judge(Slos((keeps, is_open)), both, Rules()).verdict is OPEN


def test_an_open_goal_says_how_many_runs_would_do() -> None:
    near = verdict_at(110, runs_of([100, 120, 90]))
    at_the_limit = verdict_at(100, runs_of([100, 120, 84]))

    assert near.reasons == (
        "p99 gap between tokens is open after 3 runs; about 14 would decide it: raise --most-runs",
    )
    assert "move the limit" in at_the_limit.reasons[0]


@pytest.mark.parametrize("is_paired", [True, False])
def test_a_candidate_just_at_its_limit_is_passed_or_failed_by_chance_as_rarely_as_said(
    is_paired: bool,
) -> None:
    draw = np.random.default_rng(8)
    n, wrong = 800, {PASS: 0, FAIL: 0}
    for _ in range(n):
        # Two looks, as a replay has them: after three runs, and after six if it was still open.
        candidate, current = np.exp(draw.normal([[math.log(1.25)], [0.0]], 0.15, (2, 6))).tolist()
        for n_runs in (3, 6):
            runs = runs_of(candidate[:n_runs], current[:n_runs], is_paired=is_paired)
            verdict = verdict_at(1.25, runs, n_looks=2).verdict
            if verdict is not OPEN:
                wrong[verdict] += 1
                break

    # 5 % plus three standard errors of 800 trials.
    assert max(wrong.values()) / n < 0.05 + 3 * math.sqrt(0.05 * 0.95 / n)


def test_a_candidate_far_beyond_its_limits_is_told_after_three_runs() -> None:
    draw = np.random.default_rng(8)
    told = 0
    for _ in range(200):
        current, candidate = np.exp(draw.normal([[0.0], [math.log(6)]], 0.15, (2, 3))).tolist()
        told += verdict_at(1.25, runs_of(candidate, current), n_looks=2).verdict is FAIL

    assert told >= 190
