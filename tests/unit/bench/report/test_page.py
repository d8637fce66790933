"""The page of all results: whole in one file, and no text in it can act."""

from __future__ import annotations

import json
import re

from bench.report.load import Loaded
from bench.report.page import plotly_script, render_page
from bench.result import Figure, Goal, Result

ROWS = tuple(
    Figure("TTFT", "ms", (float(n), n + 0.5), "lower", f"{n} adapters") for n in (1, 8, 64)
)
COLD = Result(
    "cold_load",
    "How long to the first token?",
    {"seed": 0},
    ROWS,
    goals=(Goal("TTFT p50", "at most 5 ms", "2 ms", True), Goal("p99", "9 ms", "12 ms", False)),
)


def page_of(*results: Result, **descriptions: str) -> str:
    loaded = Loaded({result.file_name.removesuffix(".json"): result for result in results})
    return render_page(loaded, descriptions, script="var plotly;")


def plots_in(page: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S)
    assert found
    plots: list[dict[str, object]] = json.loads(found[1])
    return plots


def test_a_scenario_shows_its_question_goals_plots_and_figures() -> None:
    page = page_of(COLD, cold_load="How long is a cold start?\n\nIt loads.")

    assert '<section id="cold_load"><h2>From disk to the first token</h2>' in page
    assert '<p class="question">How long is a cold start?</p>' in page
    assert "<pre>It loads.</pre>" in page
    assert '<span class="tag met">met</span> TTFT p50: wanted at most 5 ms, found 2 ms' in page
    assert '<span class="tag missed">not met</span> p99' in page
    assert [plot["kind"] for plot in plots_in(page)] == ["growth"]
    assert page.count('id="plot-0"') == 1
    assert '<td>8.25 <span class="spread">(8.00 to 8.50)</span></td>' in page


def test_what_was_not_measured_is_listed() -> None:
    page = page_of(COLD)

    listed = page.partition("<h2>Not measured yet</h2>")[2].partition("</section>")[0]
    assert "bench.scenarios.tuned_profile" in listed
    assert "bench.scenarios.cold_load" not in listed


def test_a_result_that_no_catalogue_knows_is_shown_too() -> None:
    page = page_of(Result("another_thing", "Why not?", {}, ROWS))

    assert '<section id="another_thing">' in page


def test_texts_of_a_result_cannot_act() -> None:
    evil = "</script><script>alert(1)</script>"
    rows = tuple(Figure(evil, "ms", (1.0,), None, f"{n} {evil}") for n in range(1, 4))

    page = page_of(Result("cold_load", evil, {"a": evil[:20]}, rows), cold_load=evil)

    assert page.count("<script") == 3
    assert page.count("</script>") == 3
    assert evil in json.dumps(plots_in(page))


def test_the_page_asks_nobody_for_anything() -> None:
    page = page_of(COLD)

    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "@import" not in page
    assert "url(" not in page


def test_plotly_comes_with_the_installed_package_and_can_stand_in_a_page() -> None:
    script = plotly_script()

    assert "plotly.js v" in script[:200]
    assert "</script" not in script.lower()
