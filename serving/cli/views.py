"""What verbs print: tables for people, JSON for scripts. Knows no HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.cli.errors import CliError, RequestRefused, VerdictRefused

Row = Mapping[str, Any]

_STATE_STYLE = {
    "live": "bold green",
    "passed": "green",
    "proven": "green",
    "rejected": "red",
    "failed": "red",
    "quarantined": "bold red",
    "inconclusive": "yellow",
    "retired": "dim",
    "superseded": "dim",
}

# A pipe has no width: wide enough that no cell is cut.
out = Console(width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped."""
    print(json.dumps(value, indent=2, sort_keys=True, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table whose cells are plain text."""
    out.print(make_table(title, columns, rows))


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table whose cells are plain text; state words are coloured."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """One fact a line."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        table.add_row(f"[bold]{escape(name)}[/bold]", _cell(value))
    out.print(table)


def version_name(version: Row) -> str:
    """`acme/support@3` of a version as the API shows it."""
    if "name" in version:
        return str(version["name"])
    number = version.get("number", version.get("version", "?"))
    return f"{version.get('tenant', '?')}/{version.get('adapter', '?')}@{number}"


def items_of(answer: Any, name: str) -> list[dict[str, Any]]:
    """The rows of a listing, whether it is bare or wrapped in an object."""
    rows = answer.get(name, answer.get("items", [])) if isinstance(answer, dict) else answer
    return list(rows or [])


def print_findings(findings: Iterable[Row]) -> None:
    """Each kind of finding once: what it means, where it is, what was found, the fix."""
    by_code: dict[str, list[Row]] = {}
    for finding in findings:
        by_code.setdefault(str(finding.get("code", "finding")), []).append(finding)
    for code, group in by_code.items():
        first = group[0]
        colour = {"info": "blue", "warning": "yellow"}.get(str(first.get("severity")), "red")
        meaning = escape(str(first.get("meaning") or first.get("detail") or ""))
        _say(f"  [{colour}]{escape(code)}[/{colour}] {meaning}")
        for finding in group:
            _say(f"    {escape(_place(finding))}")
        if first.get("fix"):
            _say(f"    fix: {escape(str(first['fix']))}")


def _place(finding: Row) -> str:
    where = finding.get("where") or finding.get("subject")
    facts = [str(where)] if where else []
    # Problem documents say of a place what is wrong there, preflight of a code what it means.
    if finding.get("title"):
        facts.append(str(finding["title"]))
    for name in ("found", "allowed"):
        if finding.get(name) not in (None, "", []):
            facts.append(f"{name} {finding[name]}")
    return ", ".join(facts)


def _say(markup: str) -> None:
    err.print(markup, soft_wrap=True, highlight=False)


def reasons_of(version: Row) -> list[str]:
    """Why a version is where it is, as sentences."""
    reasons = version.get("reasons") or (version.get("progress") or {}).get("reasons") or []
    texts = [_reason(item) for item in reasons]
    if version.get("error"):
        texts.append(_reason(version["error"]))
    return texts


def standing_of(version: Row) -> list[str]:
    """What was made of a version since its evaluation: an override, a re-check."""
    texts = []
    if version.get("override_reason"):
        texts.append(f"promoted by {version.get('override_by')}: {version['override_reason']}")
    recheck = version.get("recheck") or {}
    if recheck.get("verdict"):
        changed = ", ".join(recheck["reason"]["changed"])
        texts.append(f"re-check after {changed} changed: {recheck['verdict']}")
        texts += [_reason(item) for item in recheck["reasons"] if recheck["verdict"] != "PASS"]
    if recheck.get("error"):
        texts.append(f"re-check put off: {_reason(recheck['error'])}")
    return texts


def print_error(error: CliError) -> None:
    """An error with everything that came with it: findings, reasons, the fix."""
    _say(f"[red]error[/red]: {escape(str(error))}")
    if isinstance(error, RequestRefused):
        print_findings(error.findings)
    if isinstance(error, VerdictRefused):
        print_findings(error.version.get("findings") or ())
        for reason in reasons_of(error.version):
            _say(f"  - {escape(reason)}")
    if error.fix:
        _say(f"fix: {escape(error.fix)}")


def when(seconds: Any) -> str:
    """Unix seconds or an ISO text as local-free UTC text."""
    if isinstance(seconds, int | float):
        return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(seconds or "")


def _reason(item: Any) -> str:
    if isinstance(item, dict):
        head = str(item.get("code", ""))
        tail = str(item.get("detail") or item.get("text") or item.get("message") or "")
        return f"{head}: {tail}" if head and tail else head or tail or json.dumps(item)
    return str(item)


def _cell(value: Any) -> str:
    text = escape("" if value is None else str(value))
    style = _STATE_STYLE.get(text)
    return f"[{style}]{text}[/{style}]" if style else text
