"""The generated parts of a page: written from results alone, and told when they cannot be."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from bench.report.__main__ import main
from bench.report.docs import BadDocument, about, docstring_of, render, render_scenarios
from bench.report.load import Loaded, load_results
from bench.result import RESULTS, Figure, Goal, Result, write_result

COLD = Result(
    "cold_load",
    "How long to the first token?",
    {"seed": 0},
    (Figure("TTFT", "ms", (2.0, 1.0, 3.0)),),
    goals=(Goal("TTFT", "at most 5 ms", "2 ms", True),),
)
PAGE = """# Page

<!-- generated: goals -->
earlier words
<!-- end -->
By hand.
<!-- generated: table cold_load -->
<!-- end -->
"""


def test_parts_are_written_anew_and_what_is_by_hand_stays() -> None:
    after = render(PAGE, Loaded({"cold_load": COLD}), {})

    assert "earlier words" not in after
    assert "| TTFT | at most 5 ms | 2 ms | met | [cold_load](" in after
    assert "By hand.\n<!-- generated: table cold_load -->\n|  | found |\n" in after
    assert "| TTFT, ms | 2 (1 to 3) |" in after
    assert render(after, Loaded({"cold_load": COLD}), {}) == after


def test_a_scenario_has_its_description_machine_settings_and_figures() -> None:
    text = render_scenarios(Loaded({"cold_load": COLD}), {"cold_load": "It loads\nand asks."})

    section, _, missing = text.partition("## Not measured yet")
    assert section.startswith("## From disk to the first token: `python -m bench.scenarios.cold_")
    assert "How long to the first token?\n\nIt loads\nand asks." in section
    assert "[Results](../bench/results/cold_load.json)" in section
    assert "Settings: seed 0. Of 3 runs the median" in section
    assert "cold_load" not in missing
    assert "`python -m bench.scenarios.replay_gate`" in missing


def test_a_variant_stands_in_its_scenarios_section() -> None:
    card = Result("cold_load", "How long?", {}, COLD.figures, variant="h100")

    text = render_scenarios(Loaded({"cold_load_h100": card, "cold_load": COLD}), {})

    assert text.count("## From disk") == 1
    assert "\n**h100**: [Results](../bench/results/cold_load_h100.json)" in text
    assert text.index("results/cold_load.json") < text.index("results/cold_load_h100.json")


def test_a_result_that_no_catalogue_knows_has_a_section_too() -> None:
    new = Result("another_thing", "Why not?", {}, COLD.figures)

    text = render_scenarios(Loaded({"another_thing": new}), {})

    assert "## another thing: `python -m bench.scenarios.another_thing`" in text
    # An older one has its section by hand.
    older = Loaded({"another_thing": new}, older=frozenset({"another_thing"}))
    assert "another" not in render_scenarios(older, {})


def test_a_question_is_not_asked_twice() -> None:
    assert about("How long?", "How long is it?\n\nSo.") == ("", "How long is it?\n\nSo.")
    assert about("How long?", "A run of it.") == ("How long?", "A run of it.")
    assert docstring_of('"""How long?"""\nimport none_such\n') == "How long?"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- generated: goals -->\n", "does not end"),
        ("<!-- generated: table none -->\n<!-- end -->\n", "'table none'"),
    ],
)
def test_a_marker_that_is_wrong_is_told(page: str, told: str) -> None:
    with pytest.raises(BadDocument, match=told):
        render(page, Loaded(), {})


def test_all_results_of_the_repository_can_be_read() -> None:
    loaded = load_results()

    assert loaded.problems == ()
    assert {"load_stall", "soft_pins", "statistics"} <= loaded.results.keys()
    for result in loaded.results.values():
        for figure in result.figures:
            assert figure.defined or all(math.isnan(value) for value in figure.values)


def test_older_files_say_what_was_measured() -> None:
    stall = load_results().results["load_stall"]

    assert stall.figure("largest gap", group="nothing is loaded").values[0] == pytest.approx(
        1000 * 0.07583713400026681
    )
    assert stall.n_runs == 8


def test_a_broken_file_is_named_and_the_others_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, docs, page = tmp_path / "results", tmp_path / "page.md", tmp_path / "out" / "p.html"
    write_result(
        "cold_load", question="?", parameters={}, figures=COLD.figures, raw=None, folder=results
    )
    (results / "replay_gate.json").write_text('{"format": 1}')
    shutil.copy(RESULTS / "zoo.json", results)
    docs.write_text("<!-- generated: scenarios -->\n<!-- end -->\n")
    arguments = ["--results", str(results), "--docs", str(docs), "--page", str(page)]

    assert main([*arguments, "--write"]) == 1

    assert "replay_gate.json: no field 'figures'" in capsys.readouterr().err
    assert "results/cold_load.json" in docs.read_text()
    assert page.is_file()


def test_check_says_that_a_page_is_old_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "page.md"
    docs.write_text("<!-- generated: goals -->\n<!-- end -->\n")
    arguments = ["--results", str(tmp_path), "--docs", str(docs), "--page", str(tmp_path / "p")]

    assert main([*arguments, "--check"]) == 1
    assert "page.md is old" in capsys.readouterr().err
    assert docs.read_text() == "<!-- generated: goals -->\n<!-- end -->\n"

    assert main([*arguments, "--write"]) == 0
    assert main([*arguments, "--check"]) == 0
