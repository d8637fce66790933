"""What a search shows: rows, sentences, a page that needs no network, and its forecast."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from serving.tuning.conclusion import Conclusion, axes_of, conclude
from serving.tuning.profile_file import Provenance
from serving.tuning.race import Round
from serving.tuning.search import Costs, Plan, State
from serving.tuning.space import LeftOut
from serving.tuning.tune_page import front_plot, page
from serving.tuning.tune_report import (
    columns,
    forecast,
    plan_json,
    result_json,
    sentences,
    table_rows,
)
from tests.builders.searches import NoisyEngines, plan, race

WHERE = Provenance("2026-11-30T10:00Z", "a machine", {"vllm": "0.32.0"}, "b", "s", "d", "work")


@pytest.fixture(scope="module")
def search() -> tuple[Plan, State, Conclusion]:
    wanted = replace(plan(), budget_seconds=math.inf)
    state, _ = race(wanted, NoisyEngines(seed=3))
    failed = {wanted.candidates[0]: "<script>alert('no memory')</script>"}
    state = replace(state, failed=failed)
    return wanted, state, conclude(wanted, state)


def test_nothing_is_better_in_both_than_what_is_on_the_front(
    search: tuple[Plan, State, Conclusion],
) -> None:
    wanted, _, found = search
    points = {row.setting: axes_of(row, wanted.goals.metric) for row in found.rows}

    for row in found.rows:
        x, y = points[row.setting]
        is_beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in points.values())
        assert row.is_on_front == (not is_beaten)


def test_the_chosen_one_is_named_first_and_marked_in_the_table(
    search: tuple[Plan, State, Conclusion],
) -> None:
    wanted, state, found = search

    lines = sentences(wanted, state, found, stop="enough")
    rows = table_rows(wanted, found)

    assert lines[0].startswith(f"Chosen: {found.chosen.name}")
    assert any("no memory" in line for line in lines)
    assert rows[0][0] == wanted.start.name
    assert [row[0] for row in rows if "chosen" in row[-2]] == [found.chosen.name]
    assert all(len(row) == len(columns(wanted)) for row in rows)


def test_a_generator_that_was_late_is_told(search: tuple[Plan, State, Conclusion]) -> None:
    wanted, state, found = search
    late = tuple(
        replace(one, values={**one.values, "lag_p99": one.values["ttft_p99"] / 2})
        for one in state.rounds[:2]
    )

    told = sentences(
        wanted, replace(state, rounds=(*late, *state.rounds[2:])), found, stop="enough"
    )

    assert any(line.startswith(f"In 2 of {len(state.rounds)} rounds") for line in told)
    assert not any("sent late" in line for line in sentences(wanted, state, found, stop="enough"))


def test_the_page_loads_nothing_and_runs_no_text_of_a_log(
    search: tuple[Plan, State, Conclusion],
) -> None:
    wanted, state, found = search

    text = page(wanted, state, found, stop="enough", evidence=["</pre><b>"], plotly="let p;")

    assert not re.findall(r"""(?:src|href)\s*=""", text)
    assert "<script>alert" not in text
    assert "</pre><b>" not in text
    assert text.count("<script>") == 2


def test_the_plot_has_a_point_for_each_setting_with_its_interval(
    search: tuple[Plan, State, Conclusion],
) -> None:
    wanted, _, found = search

    plot = front_plot(wanted, found)

    markers = [trace for trace in plot["data"] if trace["mode"] == "markers"]
    assert len(markers) == len(found.rows)
    assert all(trace["error_x"]["array"][0] > 0 for trace in markers)
    assert [t["marker"]["symbol"] for t in markers].count("star") == 1
    json.dumps(plot, allow_nan=False)


def test_the_result_is_json_without_nan(search: tuple[Plan, State, Conclusion]) -> None:
    wanted, state, found = search
    blind = Round(wanted.candidates[1], 0, {"gap_p99": math.nan, "n_failed": 3.0})
    state = replace(state, rounds=(*state.rounds, blind))

    document = result_json(
        wanted, state, conclude(wanted, state), WHERE, stop="enough",
        left_out=[LeftOut(wanted.candidates[2], "why")],
    )  # fmt: skip

    assert document["chosen"] == found.chosen.to_json()
    json.dumps(document, allow_nan=False)


def test_a_forecast_lies_between_the_start_alone_and_everything() -> None:
    wanted, costs = plan(budget_seconds=1e9), Costs(60.0, 30.0)

    told = forecast(wanted, costs)
    short = forecast(replace(wanted, budget_seconds=1.0), costs)

    n = len(wanted.candidates)
    assert told.worst_seconds == (n + 1) * (60 + 3 * 30)
    assert 150 <= told.expected_seconds <= told.worst_seconds
    # The start is measured whatever the budget says.
    assert short.expected_seconds == short.worst_seconds == 150
    assert plan_json(wanted, (), told, State())["worst_seconds"] == told.worst_seconds
