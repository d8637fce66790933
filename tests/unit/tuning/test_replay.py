"""Who has which run when, which goals a replay has, and what its page shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.profile import EngineProfile
from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.measure import LoadResult, Sample
from serving.tuning.plotly_script import NO_PLOTS
from serving.tuning.replay import CANDIDATE, CURRENT, Replay, Replayed, Side, runs_of, turns
from serving.tuning.replay_goals import choose_goals
from serving.tuning.replay_order import (
    Chosen,
    Machine,
    Order,
    available_bytes,
    choose_order,
)
from serving.tuning.replay_page import distribution_plots, page
from serving.tuning.replay_report import plan_sentence, result_json, sentences
from serving.tuning.replay_verdict import Rules, judge
from serving.tuning.slo import Slo, SloInvalid, Slos, default_goals

WINDOW = Shape("<window>", (Arrival(0.0, 5, 3, 0, "short"), Arrival(0.1, 900, 3, 1, "long")))
GIB = 1024**3


def planned(order: Order, *, has_current: bool = True) -> Replay:
    profile = EngineProfile(model="m")
    return Replay(
        shape=WINDOW,
        candidate=Side(CANDIDATE, profile),
        current=Side(CURRENT, profile) if has_current else None,
        slos=Slos(default_goals(WINDOW, has_current=has_current)),
        order=Chosen(order, "so it is"),
        folder=Path("nowhere"),
    )


def load_of(delay: float) -> LoadResult:
    samples = [
        Sample(
            kind, 0, at, at, at + delay, (at + delay, at + 1.5 * delay, at + 2 * delay),
            at + 2 * delay, 200, n, 3, None,
        )
        for kind, at, n in (("short", 0.0, 5), ("long", 0.1, 900))
    ]  # fmt: skip
    return LoadResult(tuple(samples))


def replayed(
    candidate: list[float], current: list[float] | None = None, *, order: Order = Order.INTERLEAVED
) -> Replayed:
    replay = planned(order, has_current=current is not None)
    found = Replayed(replay, {CANDIDATE: [load_of(delay) for delay in candidate]})
    if current is not None:
        found.results[CURRENT] = [load_of(delay) for delay in current]
    found.judged = judge(replay.slos, runs_of(found), Rules())
    return found


@given(st.integers(1, 8), st.sampled_from(list(Order)), st.booleans(), st.booleans())
def test_each_side_has_each_run_once(
    n: int, order: Order, has_current: bool, is_reversed: bool
) -> None:
    replay = planned(order, has_current=has_current)

    had = [(side.name, run) for side, run in turns(replay, range(n), is_reversed=is_reversed)]

    assert sorted(had) == sorted((side.name, run) for side in replay.sides for run in range(n))


def test_interleaved_runs_alternate_who_begins() -> None:
    had = [side.name for side, _ in turns(planned(Order.INTERLEAVED), range(4), is_reversed=False)]

    assert had == [CURRENT, CANDIDATE, CANDIDATE, CURRENT] * 2


def test_runs_in_turn_go_back_the_way_they_came() -> None:
    replay = planned(Order.IN_TURN)

    had = [
        side.name
        for is_reversed in (False, True)
        for side, _ in turns(replay, range(2), is_reversed=is_reversed)
    ]

    assert had == [CURRENT] * 2 + [CANDIDATE] * 4 + [CURRENT] * 2


def test_two_engines_run_at_once_where_both_fit() -> None:
    small, large = EngineProfile(model="m", kv_cache_gib=1), EngineProfile(model="m")
    halves = EngineProfile(model="m", extra_arguments=("--gpu-memory-utilization=0.45",))
    cpu, gpu = Machine(16 * GIB, has_accelerator=False), Machine(16 * GIB, has_accelerator=True)

    assert choose_order([small], [GIB], cpu).order is Order.ALONE
    # Against one that runs somewhere already, one is started here.
    assert choose_order([small], [GIB], cpu, n_running=1).order is Order.INTERLEAVED
    assert choose_order([], [], cpu, n_running=1).order is Order.ALONE
    assert choose_order([small, small], [GIB, GIB], cpu).order is Order.INTERLEAVED
    assert choose_order([small, small], [9 * GIB, 9 * GIB], cpu).order is Order.IN_TURN
    assert choose_order([small, large], [GIB, GIB], cpu).order is Order.IN_TURN
    assert choose_order([large, large], [GIB, GIB], gpu).order is Order.IN_TURN
    assert choose_order([halves, halves], [GIB, GIB], gpu).order is Order.INTERLEAVED


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 8 * GIB), ("max", 8 * GIB), (str(3 * GIB), 2 * GIB)]
)
def test_free_memory_is_what_the_machine_and_the_container_leave(
    tmp_path: Path, limit: str | None, expected: int
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{GIB}\n")

    assert available_bytes(proc=tmp_path, cgroup=tmp_path) == expected


def test_an_option_takes_the_place_of_the_same_goal_of_the_file() -> None:
    file = Slos((Slo("gap_p99", 90, "short"), Slo("ttft_p99", 800, "short")), 0.001)

    found = choose_goals(
        WINDOW, file, has_current=False, limits={"gap_p99": ["short=70", "all=99"]}, ratios={}
    )

    assert found == Slos(
        (Slo("ttft_p99", 800, "short"), Slo("gap_p99", 70, "short"), Slo("gap_p99", 99)), 0.001
    )


def test_a_ratio_holds_for_each_class_and_leaves_the_other_usual_goals() -> None:
    found = choose_goals(WINDOW, None, has_current=True, limits={}, ratios={"gap_p99": 2.0})

    ratios = {(slo.metric, slo.kind): slo.limit for slo in found.goals}
    assert ratios[("gap_p99", "short")] == ratios[("gap_p99", "long")] == 2.0
    assert ratios[("ttft_p99", "short")] == 1.25
    assert ratios[("throughput", None)] == 0.95


def test_a_ratio_without_a_current_one_is_refused() -> None:
    with pytest.raises(SloInvalid, match="name one"):
        choose_goals(WINDOW, None, has_current=False, limits={}, ratios={"gap_p99": 2.0})


def test_a_window_without_any_usual_goal_asks_for_one() -> None:
    window = Shape("w", (Arrival(0.0, 900, 1, 0, "long"),))

    with pytest.raises(SloInvalid, match="--slo"):
        choose_goals(window, None, has_current=False, limits={}, ratios={})


def test_a_p99_of_few_requests_is_told_to_be_nearly_the_slowest() -> None:
    told = " ".join(sentences(replayed([0.01, 0.011], [0.01, 0.011])))

    assert "long: 1 a run" in told
    assert "short: 1 a run" in told


def test_before_it_begins_it_says_how_long_its_runs_take_at_least() -> None:
    window = Shape("w", (Arrival(0.0, 5, 3, 0, "short"), Arrival(600.0, 5, 3, 0, "short")))

    assert "3 to 6 runs of 600 s" in plan_sentence(replace(planned(Order.IN_TURN), shape=window))
    assert "60 to 120 min" in plan_sentence(replace(planned(Order.IN_TURN), shape=window))


def test_what_the_current_one_did_not_answer_is_counted() -> None:
    found = replayed([0.01, 0.011], [0.01, 0.011])
    lost = replace(found.results[CURRENT][0].samples[0], error="HTTP 503")
    found.results[CURRENT][0] = LoadResult((lost,))

    runs = runs_of(found)

    assert (runs.n_failed, runs.n_failed_current) == (0, 1)
    assert runs.failed_ratio == {None: 0, "long": 0, "short": 0}


def test_the_page_shows_both_distributions_and_lets_nothing_break_out() -> None:
    found = replayed([0.01, 0.011, 0.012], [0.01, 0.011, 0.0115])

    text = page(found, plotly="/* plotly */")

    titles = [title for title, _ in distribution_plots(found)]
    assert titles[0] == "Time to first token, long requests"
    assert {curve["name"] for _, plot in distribution_plots(found) for curve in plot["data"]} == {
        CANDIDATE,
        CURRENT,
    }
    assert "<window>" not in text
    assert "&lt;window&gt;" in text
    assert re.findall(r"(?:src|href)=", text) == []


def test_without_plotly_the_page_has_all_but_the_plots() -> None:
    text = page(replayed([0.01, 0.011], [0.01, 0.011]), plotly="")

    assert NO_PLOTS in text
    assert "<script" not in text
    assert "Figures, median of the runs" in text


@given(st.lists(st.floats(0.001, 5), min_size=2, max_size=4))
def test_a_curve_falls_from_all_values_to_the_slowest(delays: list[float]) -> None:
    for _, plot in distribution_plots(replayed(delays)):
        (curve,) = plot["data"]
        assert curve["x"] == sorted(curve["x"])
        assert curve["y"] == sorted(curve["y"], reverse=True)
        assert curve["y"][0] == 100


def test_the_document_has_each_goal_and_each_run_and_is_plain_json() -> None:
    document = result_json(replayed([0.01, 0.012], [0.01, 0.011]), has_samples=True)

    assert document["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}
    assert len(document["goals"]) == 5
    assert [len(document["samples"][name]) for name in (CANDIDATE, CURRENT)] == [2, 2]
    assert document["order"] == {"is": "interleaved", "because": "so it is"}


def test_runs_in_turn_say_what_they_cannot_tell_apart() -> None:
    told = " ".join(sentences(replayed([0.01, 0.01], [0.01, 0.01], order=Order.IN_TURN)))

    assert "Runs in turn: so it is." in told
    assert "counts as a difference" in told
