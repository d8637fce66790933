"""No figure in the docs lacks its result file."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.__main__ import DOCS, REPOSITORY
from bench.report.__main__ import main as report
from bench.report.traces import is_shown, stray_figures
from bench.result import RESULTS
from bench.scenario_list import list_scenarios

_SECTION = re.compile(r"(?m)^## (.*)$")
_LINK = re.compile(r"bench/results/([a-z0-9_]+\.json)")
_COMMAND = re.compile(r"python -m bench\.scenarios\.([a-z0-9_]+)")
# A claim about speed or size in front of readers: a number with a unit of time, rate or ratio.
_CLAIM = re.compile(r"\d[\d,.]*\s?(?:ms|us|tokens/s|requests/s|times (?:faster|slower))\b")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def pages() -> list[Path]:
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


@cache
def documents() -> dict[str, Any]:
    return {path.stem: json.loads(text_of(path)) for path in RESULTS.glob("*.json")}


def sections() -> list[tuple[str, str]]:
    _, *parts = _SECTION.split(text_of(DOCS))
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_generated_parts_are_what_the_result_files_say() -> None:
    assert report(["--check"]) == 0


def test_every_measured_section_names_its_command_and_a_result_file() -> None:
    lacking = [
        title for title, text in sections() if _COMMAND.search(title) and not _LINK.search(text)
    ]

    assert lacking == []


def test_a_table_stands_only_where_a_result_file_is_named() -> None:
    lacking = [
        title
        for title, text in sections()
        if re.search(r"(?m)^\|", text) and not _LINK.search(text) and title != "Goals"
    ]

    assert lacking == []


def test_every_figure_of_a_table_is_in_a_file_that_its_section_links() -> None:
    assert stray_figures(text_of(DOCS), documents()) == []


def test_every_named_result_file_and_scenario_exists() -> None:
    known = {scenario.name for scenario in list_scenarios()}
    for page in pages():
        text = text_of(page)
        assert {name for name in _LINK.findall(text) if not (RESULTS / name).is_file()} == set()
        measured = text.partition("## Not measured yet")[0] if page == DOCS else text
        assert set(_COMMAND.findall(measured)) <= known, page


def test_every_result_file_is_linked() -> None:
    linked = {name for page in pages() for name in _LINK.findall(text_of(page))}

    assert {path.name for path in RESULTS.glob("*.json")} - linked == set()


def test_result_files_stay_small() -> None:
    large = [path.name for path in RESULTS.glob("*.json") if path.stat().st_size > 1_000_000]

    assert large == []


def test_the_readme_leads_to_the_benchmarks_of_what_it_claims() -> None:
    readme = text_of(REPOSITORY / "README.md")

    assert "(docs/benchmarks.md)" in readme
    for line in readme.splitlines():
        if _CLAIM.search(line):
            assert "benchmarks.md" in line, line


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_with_a_table_of_measured_times_leads_to_the_benchmarks(page: Path) -> None:
    text = text_of(page)
    measured = [
        line
        for line in text.splitlines()
        if line.startswith("|") and re.search(r"(?i)\bmeasured\b", line) and _CLAIM.search(line)
    ]

    if measured:
        assert "benchmarks.md" in text or _LINK.search(text), measured


def test_a_figure_that_no_file_has_is_found() -> None:
    page = "## A: `x`\n([r](../bench/results/r.json))\n| a | 12.5 ms | 99 % | 3 of 8 |\n"

    found = stray_figures(page, {"r": {"seconds": 0.0125, "rate": 0.9, "rows": [3, 3, 2]}})

    assert [each.figure for each in found] == ["99"]


@given(st.floats(0.001, 1e6), st.integers(0, 3))
def test_a_rounded_figure_traces_back_in_any_of_the_usual_units(value: float, n: int) -> None:
    for scale in (1, 100, 1000):
        assert is_shown(f"{value * scale:,.{n}f}", [value])


def test_a_figure_that_is_off_by_one_digit_does_not() -> None:
    assert is_shown("12.3", [12.345])
    assert not is_shown("12.4", [12.345])
    assert not is_shown("12", [12.6])
    assert is_shown("1.2e-13", [1.23e-13])
