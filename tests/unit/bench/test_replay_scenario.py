"""The scenario's window is one that could have been recorded, and its verdicts become goals."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.parity.verdict import VerdictKind
from bench.scenarios.replay_gate import GOALS, WINDOW, Tried, figures_of, goals_of, recorded_window
from serving.tuning.measure import LoadResult, Sample
from serving.tuning.replay import CANDIDATE, CURRENT, Replay, Replayed, Side, runs_of
from serving.tuning.replay_order import Chosen, Order
from serving.tuning.replay_verdict import Rules, judge


def test_a_window_that_was_a_trace_asks_for_the_same_requests(tmp_path: Path) -> None:
    drawn = WINDOW.draw(3)

    read = recorded_window(drawn, tmp_path / "window.jsonl")

    first = drawn.arrivals[0].at
    assert [a.at for a in read.arrivals] == pytest.approx([a.at - first for a in drawn.arrivals])
    assert [(a.n_prompt, a.n_output, a.kind) for a in read.arrivals] == [
        (a.n_prompt, a.n_output, a.kind) for a in drawn.arrivals
    ]


def tried(candidate: str, delays: tuple[float, ...]) -> Tried:
    replay = Replay(
        WINDOW.draw(0), Side(CANDIDATE), Side(CURRENT), GOALS,
        Chosen(Order.INTERLEAVED, "so it is"), Path("unused"),
    )  # fmt: skip
    found = Replayed(replay, {CURRENT: [], CANDIDATE: []})
    for number, delay in enumerate(delays):
        usual = 0.1 + 0.001 * number
        found.results[CURRENT].append(load_of(usual))
        found.results[CANDIDATE].append(load_of(usual * delay))
    found.judged = judge(GOALS, runs_of(found), Rules())
    return Tried(candidate, found)


def load_of(gap: float) -> LoadResult:
    times = (gap, 2 * gap, 3 * gap)
    return LoadResult((Sample("short", 0, 0.0, 0.0, gap, times, 3 * gap, 200, 20, 3, None),))


def test_each_candidates_verdicts_are_a_goal_of_its_own() -> None:
    rows = [
        tried("bad", (8.0, 8.1, 7.9)),
        tried("good", (1.0, 1.001, 1.002)),
        tried("bad", (8.0, 8.1, 7.9)),
        tried("good", (9.0, 9.1, 9.2)),
    ]

    bad, good = goals_of(rows)

    assert [row.verdict for row in rows] == [
        VerdictKind.FAIL, VerdictKind.PASS, VerdictKind.FAIL, VerdictKind.FAIL,
    ]  # fmt: skip
    assert (bad.found, bad.is_met) == ("2 of 2 (FAIL, FAIL)", True)
    assert (good.found, good.is_met) == ("1 of 2 (PASS, FAIL)", False)
    assert {figure.group for figure in figures_of(rows)} == {"bad", "good"}
    by_run = {figure.name for figure in figures_of(rows) if len(figure.values) == 2 * 3}
    assert by_run == {
        f"{metric} of short requests, {side}"
        for metric in ("gap p99", "ttft p99")
        for side in (CURRENT, CANDIDATE)
    }
    assert all(len(f.values) == 2 for f in figures_of(rows) if f.name not in by_run)
