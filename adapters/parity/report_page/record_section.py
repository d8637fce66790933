"""What it was measured with: digests, versions, seeds, the policy in force, and where time went.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, items, mapping, number, rows, text
from adapters.parity.report_page.summary import total_seconds
from adapters.parity.report_page.tables import Column, chip, code, facts, section, table

_MOST_ROWS = 100
_BAR_WIDTH = 200.0


def render_record(report: Json) -> Html:
    """All that is needed to measure it again."""
    return section(
        "record",
        "Record",
        _inputs(report),
        _export(mapping(report, "export")),
        _stages(report),
        _policy(report),
        _versions(mapping(report, "versions")),
        lead="With these, the artifact and the JSON report, the verdict can be computed again.",
    )


def _inputs(report: Json) -> Html:
    pairs: list[tuple[str, str | None]] = [
        ("Version", text(report, "version")),
        ("Adapter digest", text(report, "adapter_digest")),
        ("Suite digest", text(report, "suite", "digest")),
        ("Base model", text(report, "base", "model")),
        ("Base revision", text(report, "base", "revision")),
        ("Number type", text(report, "base", "dtype")),
        ("Engine", text(report, "engine", "id")),
        ("Engine build", text(report, "engine", "build")),
        ("Reference runner", text(report, "runner")),
        ("Seed", text(report, "seed")),
        ("Started", text(report, "started_at")),
        ("Report format", text(report, "format")),
    ]
    known = [(name, _value(value)) for name, value in pairs]
    return facts(known)


def _value(value: str | None) -> Html:
    return notation.undefined() if value is None else code(clip(value, 300))


def _export(export: Json) -> Html | None:
    if not export:
        return None
    n_modules, n_answers = number(export, "n_modules"), number(export, "n_answers")
    found = [
        element("li", code(clip(text(row, "code") or "finding", 80)), " ", _finding(row))
        for row in rows(export, "findings")[:_MOST_ROWS]
    ]
    status = clip((text(export, "status") or "unknown").replace("_", " "), 60)
    compared = (
        f"; {notation.count(n_modules) or 'no'} modules and {notation.count(n_answers) or 'no'} "
        "answers were compared with the training fingerprint"
    )
    sentence = element("p", "Training to files: ", element("strong", status), compared, ".")
    return element(
        "div", element("h3", "Export"), sentence, element("ul", *found) if found else None
    )


def _finding(row: Json) -> str:
    parts = [text(row, key) for key in ("text", "where", "found", "allowed", "fix")]
    return clip("; ".join(part for part in parts if part), 500)


def _stages(report: Json) -> Html | None:
    seconds = [
        (str(name), value)
        for name, raw in list(mapping(report, "seconds_by_stage").items())[:_MOST_ROWS]
        if name != "total" and (value := number(raw)) is not None
    ]
    whole = total_seconds(report)
    if not seconds or whole is None:
        return None
    reused = {str(name) for name in items(report, "reused_stages")}
    longest = max(value for _, value in seconds) or 1.0
    columns = [
        Column("Stage"),
        Column("Seconds", "number"),
        Column("Share", "number"),
        Column("", "bar-cell"),
    ]
    lines = [
        (
            _stage(name, is_reused=name in reused),
            notation.shown(notation.seconds(value)),
            notation.shown(notation.percent(value / whole if whole else None, 0)),
            _bar(value / longest),
        )
        for name, value in seconds
    ]
    title = f"Where {notation.seconds(whole)} went"
    return element("div", element("h3", title), table(title, columns, lines, class_="compact"))


def _stage(name: str, *, is_reused: bool) -> Html:
    """A result that was there already costs a later run nothing."""
    title = join([clip(name.replace("_", " "), 60)])
    return join([title, " ", chip("reused", "plain")]) if is_reused else title


def _bar(share: float) -> Html:
    width = max(1.0, min(1.0, max(0.0, share)) * _BAR_WIDTH)
    return element(
        "svg",
        element("rect", x=0, y=2, width=_BAR_WIDTH, height=10, rx=2, class_="track"),
        element("rect", x=0, y=2, width=width, height=10, rx=2, class_="fill"),
        viewBox=f"0 0 {_BAR_WIDTH:g} 14",
        width=_BAR_WIDTH,
        height=14,
        class_="bar",
        aria_hidden="true",
    )


def _policy(report: Json) -> Html | None:
    policy = mapping(report, "policy")
    if not policy:
        return None
    source_by_field = _sources(report)
    columns = [Column("Field", "mono"), Column("Value", "wide"), Column("Set by")]
    lines = [
        (
            code(clip(name, 80)),
            clip(_written(value), 400),
            _source(source_by_field.get(name, notation.NOT_APPLICABLE)),
        )
        for name, value in islice(_flat(policy), _MOST_ROWS)
    ]
    stack = [_scope(row) for row in rows(report, "policy_source")[:20]]
    order = None
    if stack:
        order = element("p", f"Laid over each other, widest first: {clip(', '.join(stack), 300)}.")
    return element(
        "div",
        element("h3", "Policy"),
        order,
        table("Policy in force", columns, lines, class_="compact dense"),
    )


def _source(scope: str) -> Html:
    """Who decided; what is not the default stands out."""
    shown = clip(scope, 80)
    return join([shown]) if shown in {"default", notation.NOT_APPLICABLE} else chip(shown, "plain")


def _sources(report: Json) -> dict[str, str]:
    """Which scope set which field, by its dotted name."""
    sources = mapping(report, "policy_sources")
    return {str(name): _scope(row) for name, row in sources.items() if isinstance(row, Mapping)}


def _flat(policy: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by their dotted names, as the sources name them; an empty group is one field."""
    for name, value in policy.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _scope(row: Json) -> str:
    number_ = number(row, "number")
    scope = text(row, "scope") or "unknown"
    return scope if number_ is None else f"{scope} #{number_:.0f}"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return notation.UNDEFINED
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_written(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _versions(versions: Json) -> Html | None:
    if not versions:
        return None
    pairs = [
        (clip(str(name), 60), join([clip(str(value), 80)]))
        for name, value in sorted(versions.items())[:_MOST_ROWS]
    ]
    return element("div", element("h3", "Libraries"), facts(pairs))
