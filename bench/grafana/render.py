"""Writes a dashboard as Grafana's JSON (schema 39, Grafana 10 and 11).

Every query asks the data source of the variable `datasource`, so that a page works on any Grafana.
Colours are Grafana's own palette, which follows the reader's light or dark theme.
"""

from __future__ import annotations

from typing import Any

from bench.grafana.model import Dashboard, Panel, Query, Variable

SCHEMA_VERSION = 39
_COLUMNS = 24
_ROW_HEIGHT = 1
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_AGO = ("1h", "2h", "1d", "7d")
_AGO_AT_FIRST = "2h"

Json = dict[str, Any]


def render(dashboard: Dashboard) -> Json:
    """The whole document, as Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["loraplane"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [_link_to_the_others()],
        "annotations": {"list": []},
        "templating": {"list": _variables(dashboard)},
        "panels": _panels(dashboard),
    }


def _link_to_the_others() -> Json:
    return {
        "title": "loraplane",
        "type": "dashboards",
        "tags": ["loraplane"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _variables(dashboard: Dashboard) -> list[Json]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    found = [source, *(_drop_down(variable) for variable in dashboard.variables)]
    return [*found, _ago()] if dashboard.has_ago else found


def _drop_down(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _SOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Not the list of all values: with hundreds of adapters a query would be too long to send.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _ago() -> Json:
    return {
        "name": "ago",
        "label": "Compared with",
        "type": "custom",
        "query": ",".join(_AGO),
        "options": [
            {"text": span, "value": span, "selected": span == _AGO_AT_FIRST} for span in _AGO
        ],
        "current": {"selected": True, "text": _AGO_AT_FIRST, "value": _AGO_AT_FIRST},
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }


def _panels(dashboard: Dashboard) -> list[Json]:
    panels: list[Json] = []
    top = 0
    for row in dashboard.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": _ROW_HEIGHT},
                "panels": [],
            }
        )
        top += _ROW_HEIGHT
        left = line = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, line = top + line, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append(_panel(len(panels) + 1, panel, place))
            left, line = left + panel.width, max(line, panel.height)
        top += line
    return panels


def _panel(number: int, panel: Panel, place: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(index, query, panel) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _target(index: int, query: Query, panel: Panel) -> Json:
    is_instant = panel.kind in ("stat", "barchart", "table")
    form = {"heatmap": "heatmap", "barchart": "table", "table": "table"}
    return {
        "refId": "ABCDEFGHIJKL"[index],
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": form.get(panel.kind, "time_series"),
        "instant": is_instant,
        "range": not is_instant,
    }


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.is_stacked else 0,
            "showPoints": "never",
            # A gap is an engine that nobody could read, which is not a line to guess at.
            "spanNulls": False,
            "stacking": stacking,
        }
        defaults["min"] = 0
    if panel.kind in ("stat", "table") and panel.unit == "none":
        # increase() is extrapolated: two verdicts may be 2.1.
        defaults["decimals"] = 0
    if panel.kind == "stat":
        defaults["noValue"] = "unknown"
    if panel.bad_from is not None:
        defaults["color"] = {"mode": "thresholds"}
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.bad_from}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return defaults


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {
                "legend": {
                    "displayMode": "table",
                    "placement": "bottom",
                    "showLegend": True,
                    "calcs": ["lastNotNull", "max"],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "none" if panel.bad_from is None else "value",
                "graphMode": "none",
                "textMode": "auto",
            }
        case "heatmap":
            return {
                "calculate": False,
                "yAxis": {"unit": panel.unit},
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
                "tooltip": {"show": True, "yHistogram": True},
                "legend": {"show": True},
            }
        case "barchart":
            return {
                "xField": panel.by,
                "orientation": "auto",
                "showValue": "auto",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
                "tooltip": {"mode": "single", "sort": "none"},
            }
        case "table":
            return {"showHeader": True, "footer": {"show": False}}


def _transformations(panel: Panel) -> list[Json]:
    hidden = {"id": "organize", "options": {"excludeByName": {"Time": True}}}
    if panel.kind == "table":
        names = {f"Value #{'ABCDEFGHIJKL'[i]}": q.legend for i, q in enumerate(panel.queries)}
        names |= {"Value": panel.queries[0].legend}
        renamed = {"excludeByName": {"Time": True}, "renameByName": names}
        first = {"id": "merge", "options": {}}
        return [first, {"id": "organize", "options": renamed}]
    if panel.kind == "barchart":
        sort = {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": panel.by}]}}
        # In the order of numbers; then text again, because bars stand on categories.
        return [_convert(panel.by, "number"), sort, _convert(panel.by, "string"), hidden]
    return []


def _convert(label: str, kind: str) -> Json:
    conversion = {"targetField": label, "destinationType": kind}
    return {"id": "convertFieldType", "options": {"conversions": [conversion], "fields": {}}}
