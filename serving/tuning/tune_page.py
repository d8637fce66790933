"""A search's result as one HTML file that needs no network: front, rounds, table, evidence. Pure.

plotly's script is handed in and goes into the file. Texts come from profiles and engines' logs, so
they go through escaping, into the page and into the script's data.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

from serving.tuning.conclusion import Conclusion, Row, axes_of
from serving.tuning.goals import CAPACITY, METRICS, is_higher_better
from serving.tuning.plotly_script import scripts
from serving.tuning.search import Plan, State
from serving.tuning.tune_report import columns, sentences, table_rows

_COLOURS = {"start": "#c2571a", "reference": "#767676", "candidate": "#2a6fb0"}
_CHOSEN = "#1d8348"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd;
  white-space: nowrap; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: .8rem; }
.plot { height: 30rem; }
"""

_PLACES = """<h2>What a lower latency costs</h2><div class="plot" id="plot-0"></div>
<h2>Each round</h2><div class="plot" id="plot-1"></div>"""


def page(
    plan: Plan,
    state: State,
    conclusion: Conclusion,
    *,
    stop: str,
    evidence: Sequence[str],
    plotly: str,
) -> str:
    """The whole file; `plotly` is the script's text; empty: a page without plots."""
    lines = "".join(
        f"<p>{html.escape(line)}</p>" for line in sentences(plan, state, conclusion, stop=stop)
    )
    plots = [front_plot(plan, conclusion), rounds_plot(plan, conclusion)]
    data = json.dumps(plots, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>loraplane tune</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>loraplane tune: {html.escape(plan.goals.text)}</h1>
{lines}
{_PLACES if plotly else ""}
<h2>Settings</h2>{_table(plan, conclusion)}
<h2>Evidence</h2><pre>{html.escape(chr(10).join(evidence))}</pre>
{scripts(plotly, data)}</body></html>
"""


def _table(plan: Plan, conclusion: Conclusion) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns(plan))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_rows(plan, conclusion)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def front_plot(plan: Plan, conclusion: Conclusion) -> dict[str, Any]:
    """Latency against throughput, a point per setting; the front is a line through its points."""
    metric = _latency(plan)
    points = [(row, *axes_of(row, plan.goals.metric)) for row in conclusion.rows]
    points = [point for point in points if not any(math.isnan(value) for value in point[1:])]
    front = sorted((x, -y) for row, x, y in points if row.is_on_front)
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
            "x": [x for x, _ in front], "y": [y for _, y in front],
            "line": {"color": "#bbb", "dash": "dot"},
        }
    ]  # fmt: skip
    for row, x, y in points:
        data.append(_point(row, x, -y, metric, is_chosen=row.setting == conclusion.chosen))
    has_capacity = any((f := row.figure(CAPACITY)) and f.rounds for row, *_ in points)
    many = "all at once" if has_capacity else "at the offered load"
    return {"data": data, "layout": _layout(f"{metric} (ms)", f"tokens/s, {many}", is_log=True)}


def _latency(plan: Plan) -> str:
    return "gap_p99" if is_higher_better(plan.goals.metric) else plan.goals.metric


def _point(row: Row, x: float, y: float, metric: str, *, is_chosen: bool) -> dict[str, Any]:
    found = row.figure(metric)
    error = None
    if found is not None and found.interval is not None:
        error = {
            "type": "data", "symmetric": False, "thickness": 1,
            "array": [found.interval.high - x], "arrayminus": [x - found.interval.low],
        }  # fmt: skip
    return {
        "type": "scatter", "mode": "markers", "name": _plain(row.setting.name),
        "x": [x], "y": [y], "error_x": error,
        "marker": {
            "size": 14 if is_chosen else 9,
            "color": _CHOSEN if is_chosen else _COLOURS[row.role],
            "symbol": "star" if is_chosen else "circle",
        },
    }  # fmt: skip


def rounds_plot(plan: Plan, conclusion: Conclusion) -> dict[str, Any]:
    """The goal's figure of each round; lines that run alike say that seeds differ, not settings."""
    data = []
    for row in conclusion.rows:
        found = row.figure(plan.goals.metric)
        if found is not None and found.rounds:
            numbers = list(range(1, len(found.rounds) + 1))
            data.append(
                {
                    "type": "scatter", "mode": "lines+markers", "name": _plain(row.setting.name),
                    "x": numbers, "y": list(found.rounds),
                }
            )  # fmt: skip
    unit = METRICS[plan.goals.metric]
    layout = _layout("round", f"{plan.goals.metric} ({unit})", is_log=False)
    layout["xaxis"]["dtick"] = 1
    return {"data": data, "layout": layout}


def _layout(x: str, y: str, *, is_log: bool) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x}, "type": "log" if is_log else "linear"},
        "yaxis": {"title": {"text": y}, "rangemode": "tozero"},
        "margin": {"t": 20},
        "legend": {"orientation": "h", "y": -0.2},
    }


def _plain(text: str) -> str:
    # plotly reads its texts as HTML of its own kind.
    return html.escape(text)
