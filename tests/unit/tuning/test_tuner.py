"""A search carried out: one engine at a time, failures noted, gone on with after a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from serving.tuning.conclusion import conclude
from serving.tuning.journal import open_journal
from serving.tuning.race import Round
from serving.tuning.search import Costs, Measure, Plan, State, Stop, next_step
from serving.tuning.tuner import Told, Tuner
from tests.builders.searches import Clock, NoisyEngines, plan

ASSUMED = Costs(60.0, 27.0)


def search(folder: Path, engines: NoisyEngines, wanted: Plan, told: list[Told] | None = None) -> (
    tuple[State, Stop]
):  # fmt: skip
    heard = [] if told is None else told
    with open_journal(folder, {"seed": engines.seed}) as journal:
        stop = Tuner(wanted, engines, journal, ASSUMED, heard.append, clock=Clock()).run()
        return journal.state(ASSUMED), stop


@pytest.fixture
def wanted() -> Plan:
    return replace(plan(), budget_seconds=math.inf)


def test_each_setting_is_started_once_and_nothing_stays_up(tmp_path: Path, wanted: Plan) -> None:
    engines = NoisyEngines(seed=3)

    state, stop = search(tmp_path, engines, wanted)

    assert engines.n_started == len({one.setting for one in state.rounds})
    assert engines.n_up == 0
    assert "promises" in stop.reason


def test_an_engine_that_does_not_start_is_noted_and_the_search_goes_on(
    tmp_path: Path, wanted: Plan
) -> None:
    first, _ = search(tmp_path / "whole", NoisyEngines(seed=3), wanted)
    broken = frozenset({conclude(wanted, first).chosen})

    state, _ = search(tmp_path / "broken", NoisyEngines(seed=3, broken=broken), wanted)

    assert set(state.failed) == broken
    assert "no such memory" in next(iter(state.failed.values()))
    assert conclude(wanted, state).chosen not in broken
    assert conclude(wanted, state).is_better


def test_a_start_that_does_not_run_ends_the_search(tmp_path: Path, wanted: Plan) -> None:
    engines = NoisyEngines(broken=frozenset({wanted.start}))

    state, stop = search(tmp_path, engines, wanted)

    assert engines.n_started == 1
    assert state.rounds == ()
    assert "no such memory" in stop.reason


@pytest.mark.parametrize("n_before", [0, 1, 4, 7])
def test_killed_and_started_again_it_comes_to_the_same_end(
    tmp_path: Path, wanted: Plan, n_before: int
) -> None:
    whole, _ = search(tmp_path / "whole", NoisyEngines(seed=5), wanted)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", NoisyEngines(seed=5, stop_after=n_before), wanted)
    again = NoisyEngines(seed=5)
    rest, _ = search(tmp_path / "cut", again, wanted)

    assert again.n_measured <= len(whole.rounds) - n_before + 1
    assert {(r.setting, r.number) for r in whole.rounds} <= {
        (r.setting, r.number) for r in rest.rounds
    }
    assert conclude(wanted, rest).chosen == conclude(wanted, whole).chosen


def test_a_second_run_of_a_finished_search_starts_nothing(tmp_path: Path, wanted: Plan) -> None:
    search(tmp_path, NoisyEngines(seed=3), wanted)
    again = NoisyEngines(seed=3)

    search(tmp_path, again, wanted)

    assert again.n_started == 0


def test_starts_rounds_and_stops_all_count_as_engine_time(tmp_path: Path, wanted: Plan) -> None:
    state, _ = search(tmp_path, NoisyEngines(seed=3), wanted)

    # The clock goes on by 15 s at each look: one per start, one per round and one per stop.
    n_settings = len({one.setting for one in state.rounds})
    assert state.spent_seconds == 15.0 * (2 * n_settings + len(state.rounds))


def test_whoever_watches_is_told_setting_stage_and_cost(tmp_path: Path, wanted: Plan) -> None:
    told: list[Told] = []

    search(tmp_path, NoisyEngines(seed=3), wanted, told)

    assert {one.stage for one in told} == {"engine starting", "offered load"}
    spent = [one.state.spent_seconds for one in told]
    assert spent == sorted(spent)


def test_an_engine_that_dies_after_good_rounds_is_not_recommended(
    tmp_path: Path, wanted: Plan
) -> None:
    first, _ = search(tmp_path / "whole", NoisyEngines(seed=3), wanted)
    best = conclude(wanted, first).chosen
    state = replace(first, failed={best: "nothing of round 2 was answered"})

    found = conclude(wanted, state)

    assert found.chosen != best
    assert not any(row.is_on_front for row in found.rows if row.setting == best)
    step = next_step(wanted, state)
    assert not isinstance(step, Measure) or step.setting != best


def test_where_no_setting_answers_everything_the_start_does_not_keep_its_promise(
    tmp_path: Path, wanted: Plan
) -> None:
    state, _ = search(tmp_path, NoisyEngines(seed=3), wanted)
    rounds = tuple(replace(one, values={**one.values, "n_failed": 1.0}) for one in state.rounds)

    found = conclude(wanted, replace(state, rounds=rounds))

    assert (found.chosen, found.is_better) == (wanted.start, False)
    assert not found.row.keeps_bounds
    assert "answers every request" in found.reason
    assert all(row.n_unanswered >= 1 for row in found.rows)
    assert not any(row.is_on_front for row in found.rows)


def test_a_goal_that_the_load_does_not_define_ends_the_search_after_the_start(
    tmp_path: Path, wanted: Plan
) -> None:
    state, _ = search(tmp_path, NoisyEngines(seed=3), wanted)
    of_start = tuple(
        replace(one, values={**one.values, "gap_p99": math.nan})
        for one in state.rounds
        if one.setting == wanted.start
    )
    state = replace(state, rounds=of_start)

    step = next_step(wanted, state)

    assert isinstance(step, Stop)
    assert "gap_p99" in step.reason
    assert not conclude(wanted, state).row.keeps_bounds


def test_a_setting_that_is_surely_better_is_taken_where_the_best_one_is_not_sure(
    wanted: Plan,
) -> None:
    sure, restless = wanted.candidates[:2]
    gaps = {
        wanted.start: (100.0, 104.0, 98.0, 101.0),
        sure: (60.0, 61.0, 59.0, 60.5),
        restless: (40.0, 75.0),
    }
    rounds = tuple(
        Round(setting, number, {"gap_p99": gap, "throughput": 500.0, "capacity": 500.0})
        for setting, values in gaps.items()
        for number, gap in enumerate(values)
    )

    found = conclude(wanted, State(rounds))

    assert (found.chosen, found.is_better) == (sure, True)
    assert found.near == (restless,)
