"""docs/metrics.md lists every metric, with the type and the labels that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.builders.exposed_metrics import Exposed, controller_metrics, engine_metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
EXPOSED = {"Engine": engine_metrics, "Controller": controller_metrics}


def rows(section: str) -> list[list[str]]:
    """Cells of the section's table."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("section", EXPOSED)
def test_the_page_lists_what_the_code_exposes(section: str) -> None:
    listed = {
        Exposed(row[0].strip("`"), row[1], frozenset(re.findall(r"`(\w+)`", row[2])))
        for row in rows(section)
    }

    assert listed == set(EXPOSED[section]())


@pytest.mark.parametrize("section", EXPOSED)
def test_every_metric_has_unit_meaning_and_source(section: str) -> None:
    for name, _, _, unit, meaning, source in rows(section):
        assert unit, name
        assert source, name
        assert meaning.endswith("."), name


def test_names_carry_their_unit() -> None:
    for metric in [*engine_metrics(), *controller_metrics()]:
        assert metric.name.startswith("loraplane_")
        assert (metric.type == "counter") == metric.name.endswith("_total"), metric.name
        if metric.type == "histogram":
            assert metric.name.endswith("_seconds"), metric.name
