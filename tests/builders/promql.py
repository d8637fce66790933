"""Which metrics and labels a PromQL expression names. Enough for our rules and dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([a-z_:][a-z0-9_:]*)\s*\{([^{}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MADE = re.compile(r'"(\w+)",\s*"[^"]*",\s*"\w*",\s*"|count_values\("(\w+)"')


def metric_names(expr: str) -> set[str]:
    """Names of our series, recorded ones (with colons) included."""
    words = re.findall(r"[a-z_:][a-z0-9_:]*", _STRING.sub("", expr))
    return {word for word in words if "loraplane_" in word}


def selected_labels(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Of each `metric{...}`: the metric and the labels in its braces."""
    bare = _STRING.sub('""', expr)
    for name, matchers in _SELECTOR.findall(bare):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def grouping_labels(expr: str) -> set[str]:
    """Labels of `by (...)`, `on (...)` and the like."""
    groups = _GROUPING.findall(_STRING.sub('""', expr))
    return {label.strip() for group in groups for label in group.split(",") if label.strip()}


def made_labels(expr: str) -> set[str]:
    """Labels that label_replace and count_values make."""
    return {name for pair in _MADE.findall(expr) for name in pair if name}


def unknown_labels(expr: str, labels_by_series: dict[str, frozenset[str]]) -> set[str]:
    """Labels that no metric of the expression has, nor Prometheus or the expression itself."""
    given = {"instance", "job"} | made_labels(expr)
    unknown: set[str] = set()
    for name, labels in selected_labels(expr):
        unknown |= labels - labels_by_series.get(name, frozenset()) - {"instance", "job"}
    named = [labels_by_series.get(name, frozenset()) for name in metric_names(expr)]
    return unknown | (grouping_labels(expr) - given - frozenset().union(*named))
