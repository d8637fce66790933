"""A replay as one HTML file that needs no network: verdict, goals, distributions of both. Pure.

plotly's script is handed in and goes into the file. Classes and reasons come from windows and logs:
they are escaped, in the page and in the script's data.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.parity.report_page.markup import Html, element, join
from serving.tuning.measure import LoadResult, Seconds
from serving.tuning.plotly_script import scripts
from serving.tuning.replay import Replayed
from serving.tuning.replay_report import (
    COLUMNS,
    FIGURE_COLUMNS,
    figure_rows,
    goal_rows,
    judged_of,
    sentences,
)

_COLOURS = {"current": "#767676", "candidate": "#2a6fb0"}
_VERDICTS = {"PASS": "#1d8348", "FAIL": "#b03a2e", "INCONCLUSIVE": "#9a6a00"}
_MOST_POINTS = 300
"""Of a curve: more than a screen has pixels for at its bends."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; }
.plot { height: 24rem; } .verdict { font-weight: 700; }
"""


def page(found: Replayed, *, plotly: str) -> str:
    """The whole file; `plotly` is the script's text; empty: a page without plots."""
    verdict = str(judged_of(found).verdict)
    plots = distribution_plots(found) if plotly else []
    shown = [
        join([element("h2", title), Html(f'<div class="plot" id="plot-{index}"></div>')])
        for index, (title, _) in enumerate(plots)
    ]
    body = join(
        [
            element(
                "h1",
                "loraplane replay of ",
                found.replay.shape.name,
                ": ",
                element("span", verdict, class_="verdict", style=f"color: {_VERDICTS[verdict]}"),
            ),
            *[element("p", line) for line in sentences(found)],
            element("h2", "Goals"),
            _table(COLUMNS, goal_rows(judged_of(found))),
            *shown,
            element("h2", "Figures, median of the runs"),
            _table(FIGURE_COLUMNS, figure_rows(found)),
        ]
    )
    data = json.dumps([plot for _, plot in plots], allow_nan=False)
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>loraplane replay: {verdict}</title>
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
{body}
{scripts(plotly, data)}</body></html>
"""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    head = element("tr", *[element("th", name) for name in columns])
    body = [element("tr", *[element("td", cell) for cell in row]) for row in rows]
    return element("table", element("thead", head), element("tbody", *body))


def distribution_plots(found: Replayed) -> list[tuple[str, dict[str, Any]]]:
    """For each class its TTFT and its gaps, of both engines: (title, plotly's data and layout)."""
    plots = []
    for kind in found.replay.shape.kinds:
        for title, read in (("Time to first token", _ttft), ("Gaps between tokens", _gaps)):
            drawn = [
                _curve(name, [read(result, kind) for result in results])
                for name, results in found.results.items()
            ]
            curves = [curve for curve in drawn if curve is not None]
            if curves:
                plots.append((f"{title}, {kind} requests", _plot(curves)))
    return plots


def _ttft(result: LoadResult, kind: str) -> Seconds:
    return result.ttft(kind)


def _gaps(result: LoadResult, kind: str) -> Seconds:
    return result.gaps(kind)


def _curve(name: str, runs: Sequence[Seconds]) -> dict[str, Any] | None:
    """The share of all runs' values that are above a time; both axes logarithmic show the tail."""
    values = np.sort(np.concatenate([*runs, np.empty(0)])) * 1000
    if not len(values):
        return None
    above = 1 - np.arange(len(values)) / len(values)
    # Evenly spread over the logarithm of the share: few in the middle, all of the tail.
    wanted = np.geomspace(1, above[-1], _MOST_POINTS)
    places = np.unique(np.searchsorted(-above, -wanted).clip(0, len(values) - 1))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(name),
        "line": {"color": _COLOURS.get(name, "#333"), "shape": "hv"},
        "x": [round(float(value), 3) for value in values[places]],
        "y": [round(100 * float(share), 4) for share in above[places]],
    }


def _plot(curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": list(curves),
        "layout": {
            "xaxis": {"title": {"text": "ms"}, "type": "log"},
            "yaxis": {"title": {"text": "% that took longer"}, "type": "log"},
            "margin": {"t": 20},
            "legend": {"orientation": "h", "y": -0.25},
        },
    }
