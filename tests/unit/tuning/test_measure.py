"""Figures are what their definitions say, counted from when requests were due."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.tuning.load_summary import class_figures, errors_of, lag_warning, rows, summary_json
from serving.tuning.measure import LoadResult, Sample, percentile

TIMES = st.floats(0, 100).map(lambda at: round(at, 6))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    due, lag, *steps = (draw(TIMES) for _ in range(3 + draw(st.integers(0, 4))))
    sent = round(due + lag, 6)
    tokens = tuple(np.round(sent + np.cumsum(steps), 6).tolist())[:-1]
    return Sample(
        kind=draw(st.sampled_from(["short", "long"])),
        adapter=draw(st.integers(0, 5)),
        due_at=due,
        sent_at=sent,
        first_at=tokens[0] if tokens else None,
        token_at=tokens,
        ended_at=round(sent + sum(steps), 6),
        status=200,
        n_prompt=draw(st.integers(1, 100)),
        n_output=len(tokens),
        error=draw(st.sampled_from([None, None, "refused"])),
    )


RESULTS = st.builds(LoadResult, st.lists(samples(), max_size=8).map(tuple))


def answer(due: float, *tokens: float, kind: str = "short", lag: float = 0.0) -> Sample:
    end = tokens[-1] if tokens else due
    first = tokens[0] if tokens else None
    return Sample(
        kind, 0, due, due + lag, first, tokens, end, 200, 20, len(tokens), None
    )  # fmt: skip


def failure(due: float, kind: str = "short") -> Sample:
    return Sample(kind, 0, due, due, None, (), due + 1, 503, 20, 0, "HTTP 503: full")


@settings(max_examples=30)
@given(RESULTS)
def test_a_result_is_read_back_as_it_was_written(result: LoadResult) -> None:
    assert LoadResult.from_json(json.loads(json.dumps(result.to_json()))) == result


@settings(max_examples=30)
@given(RESULTS)
def test_no_request_vanishes(result: LoadResult) -> None:
    by_kind = [result.of(kind) for kind in result.kinds]

    assert sum(len(part.samples) for part in by_kind) == len(result.samples)
    assert sum(part.n_failed for part in by_kind) == result.n_failed
    assert len(result.e2e()) + result.n_failed == len(result.samples)


@settings(max_examples=30)
@given(RESULTS)
def test_classes_apart_have_the_latencies_of_all_together(result: LoadResult) -> None:
    for name in ("ttft", "gaps", "e2e"):
        figures = getattr(result, name)
        apart = [figures(kind) for kind in result.kinds]
        together = np.sort(np.concatenate(apart)) if apart else np.array([])
        assert together == pytest.approx(np.sort(figures()))


def test_a_late_start_is_not_forgiven() -> None:
    result = LoadResult((answer(1.0, 3.5, 3.6, lag=2.0),))

    assert result.ttft() == pytest.approx([2.5])
    assert result.e2e() == pytest.approx([2.6])
    assert result.lag() == pytest.approx([2.0])


def test_gaps_are_within_a_stream_and_never_between_two() -> None:
    result = LoadResult((answer(0, 1.0, 1.5), answer(0, 7.0, 7.2, 7.9, kind="long")))

    assert result.gaps() == pytest.approx([0.5, 0.2, 0.7])
    assert result.gaps("long") == pytest.approx([0.2, 0.7])


def test_tokens_a_second_are_those_of_answers_over_the_whole_time() -> None:
    result = LoadResult((answer(1.0, 2.0, 3.0), failure(4.0)))

    assert result.seconds == pytest.approx(4.0)
    assert result.tokens_per_second == pytest.approx(22 / 4)
    assert result.output_tokens_per_second == pytest.approx(2 / 4)
    assert result.failed_ratio == pytest.approx(1 / 2)


def test_nothing_measured_is_nan_and_not_a_number() -> None:
    empty = LoadResult(())

    assert math.isnan(percentile([], 50))
    for value in (empty.seconds, empty.tokens_per_second, empty.failed_ratio):
        assert math.isnan(value)
    assert summary_json(LoadResult((failure(0.0),)))["classes"]["short"]["ttft_p50_seconds"] is None


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0, 100))
def test_a_percentile_is_numpys(values: list[float], q: float) -> None:
    assert percentile(values, q) == float(np.percentile(values, q))


def test_rows_are_the_classes_and_then_all() -> None:
    result = LoadResult((answer(0, 0.5, 0.6), answer(0, 2.0, kind="long"), failure(1)))

    shown = {row[0]: row[1:] for row in rows(result)}

    assert list(shown) == ["long", "short", "all"]
    assert shown["short"][:3] == ("2", "1", "500.0 ms")
    assert shown["long"][5:8] == ("-", "-", "-")


def test_a_single_class_is_not_shown_twice() -> None:
    assert list(class_figures(LoadResult((answer(0, 1),)))) == ["short"]


def test_classes_parts_of_the_throughput_sum_up() -> None:
    result = LoadResult((answer(0, 0.5, 0.6), answer(0, 2.0, kind="long")))

    figures = class_figures(result)

    parts = figures["short"]["tokens_per_second"] + figures["long"]["tokens_per_second"]
    assert parts == pytest.approx(figures["all"]["tokens_per_second"])


def test_errors_are_told_by_how_often_they_came() -> None:
    assert errors_of(LoadResult((failure(0), failure(1), answer(0, 1)))) == [("HTTP 503: full", 2)]


def test_a_generator_that_was_late_says_so() -> None:
    late = LoadResult((answer(0, 1, lag=0.05),))

    assert "50.0 ms" in (lag_warning(late) or "")
    assert lag_warning(LoadResult((answer(0, 1, lag=0.001),))) is None
    assert lag_warning(LoadResult(())) is None
