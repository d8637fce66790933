"""Dashboards as values: rows of panels with queries, and the variables that they are filtered by.

Knows nothing of Grafana's JSON; `render` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "heatmap", "barchart", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; `legend` is Grafana's template over the result's labels."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `unit` is an id of Grafana's; `width` is in 24ths of the page."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    by: str = ""
    """Label along the x axis of a bar chart, as a number; or of a table's rows."""
    is_stacked: bool = False
    bad_from: float | None = None
    """A stat is red from this value on, and green below it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A titled band of panels, laid out from left to right and then down."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A drop-down of a label's values on `metric`, all of them at first; several may be chosen."""

    name: str
    title: str
    metric: str
    label: str

    @property
    def query(self) -> str:
        """As Grafana's Prometheus data source reads it."""
        return f"label_values({self.metric}, {self.label})"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page; `uid` is part of its address and never changes."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    has_ago: bool = False
    """Whether one chooses what `$ago` is: how far back usage is compared with."""


ENGINE = Variable("engine", "Engine", "loraplane_adapter_slots", "instance")
TENANT = Variable("tenant", "Tenant", "loraplane_adapter_requests_total", "tenant")
ADAPTER = Variable(
    "adapter", "Adapter", 'loraplane_adapter_requests_total{tenant=~"$tenant"}', "adapter"
)


def or_none(label: str) -> str:
    """What a sum by `label` shows while its counter has no series, which begin with an event.

    A zero named `none` as long as an engine answers, and nothing otherwise: unreachable is not
    zero.
    """
    known = '0 * count(loraplane_adapter_slots{instance=~"$engine"})'
    return f'or on () label_replace({known}, "{label}", "none", "", "")'
