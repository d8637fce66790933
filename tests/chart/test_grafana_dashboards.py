"""The Grafana dashboards: as generated, well formed, and about metrics that exist."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.grafana.__main__ import DASHBOARDS, FOLDER, text_of
from tests.builders.exposed_metrics import controller_metrics, engine_metrics, series_labels
from tests.builders.promql import metric_names, unknown_labels

FILES = sorted(FOLDER.glob("*.json"))
UNITS = {"none", "s", "ops", "opm", "reqps", "bytes", "Bps", "percentunit"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """Of panels, and of the variables' lists of values."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["definition"]))
    return found


def plain(expr: str) -> str:
    """PromQL without Grafana's variables in it."""
    return re.sub(r"\$__?\w+|\$\w+", "5m", expr)


def test_the_files_are_what_the_generator_writes() -> None:
    assert {path.name for path in FILES} == DASHBOARDS.keys()
    for name, dashboard in DASHBOARDS.items():
        assert (FOLDER / name).read_text() == text_of(dashboard), "run python -m bench.grafana"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_metric_and_label_of_a_panel_exists(path: Path) -> None:
    known = series_labels([*controller_metrics(), *engine_metrics()])

    for expr in expressions(load(path)):
        assert metric_names(expr), expr
        assert metric_names(expr) - known.keys() == set(), expr
        assert unknown_labels(plain(expr), known) == set(), expr


def test_every_metric_is_on_some_dashboard() -> None:
    shown = {name for path in FILES for e in expressions(load(path)) for name in metric_names(e)}

    metrics = [*controller_metrics(), *engine_metrics()]
    assert {m.name for m in metrics if not shown & m.series.keys()} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_data_source_is_built_in(path: Path) -> None:
    dashboard = load(path)

    first = dashboard["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    for panel in panels(dashboard):
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert set(re.findall(r'"uid": "([^"]+)"', path.read_text())) == {
        "${datasource}", f"loraplane-{path.stem}",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_panel_says_what_it_shows_and_in_what(path: Path) -> None:
    for panel in panels(load(path)):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_have_numbers_and_places_of_their_own(path: Path) -> None:
    found = load(path)["panels"]
    cells: set[tuple[int, int]] = set()

    for panel in found:
        place = panel["gridPos"]
        own = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert own, panel["title"]
        assert max(x for x, _ in own) < 24, panel["title"]
        assert not own & cells, panel["title"]
        cells |= own
    assert len({panel["id"] for panel in found}) == len(found)
    titles = [panel["title"] for panel in found]
    assert len(set(titles)) == len(titles)


def test_every_variable_that_a_query_uses_is_one_of_the_page() -> None:
    for path in FILES:
        dashboard = load(path)
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        used = {
            name
            for expr in expressions(dashboard)
            for name in re.findall(r"\$([a-z]\w*)", expr)
            if not name.startswith("__")
        }

        assert used <= names
        assert names - used <= {"datasource"}, path.name


def test_labels_in_legends_are_in_their_results() -> None:
    for path in FILES:
        for panel in panels(load(path)):
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    is_plain = not re.search(r"\bby \(", target["expr"])
                    is_kept = re.search(rf"\bby \([^)]*\b{label}\b", target["expr"])
                    is_made = f'"{label}"' in target["expr"]
                    assert is_plain or is_kept or is_made, (panel["title"], label)
