"""The benchmarks' page in a real browser: its plots are drawn, in both colour schemes."""

from __future__ import annotations

from pathlib import Path

from bench.report.load import load_results
from bench.report.page import plotly_script, render_page
from tests.builders.browser import a_browser, open_file


def test_every_plot_is_drawn_and_nothing_is_fetched(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_page(load_results(), {}, script=plotly_script()), encoding="utf-8")

    with a_browser() as browser:
        for scheme in ("light", "dark"):
            with open_file(browser, file, scheme=scheme) as (page, heard):
                n_plots = page.locator("figure > div").count()
                page.wait_for_function(
                    "n => document.querySelectorAll('figure .plot-container .xy').length >= n",
                    arg=n_plots,
                )
                assert n_plots > 5
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")

            assert heard.complaints == []
            assert heard.requests == [file.as_uri()]
            assert wide <= 0
