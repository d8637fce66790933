"""Pages for people: the dashboard's static files, a gate report as HTML. No script from afar."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}


def load_asset(name: str) -> tuple[bytes, str] | None:
    """(bytes, media type) of one of the dashboard's files; None for any other name."""
    media_type = _MEDIA_TYPES.get(name)
    if media_type is None:
        return None
    return files(__name__).joinpath(name).read_bytes(), media_type


def render_report(version: str, report: dict[str, Any]) -> str:
    """A gate report as a page without scripts: verdict and reasons first, then all of it."""
    verdict = html.escape(str(report.get("verdict", "")))
    reasons = "".join(f"<li>{html.escape(_reason(item))}</li>" for item in _listed(report))
    body = html.escape(json.dumps(report, indent=2, sort_keys=True, default=str))
    title = html.escape(version)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{title}: {verdict}</title>"
        "<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2rem;"
        "max-width:70rem}pre{overflow:auto;padding:1rem;border:1px solid currentColor}</style>"
        f"<h1>{title}</h1><p>Verdict: <strong>{verdict}</strong></p><ul>{reasons}</ul>"
        f"<h2>Report</h2><pre>{body}</pre></html>"
    )


def _listed(report: dict[str, Any]) -> list[Any]:
    reasons = report.get("reasons")
    return reasons if isinstance(reasons, list) else []


def _reason(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item.get('code', '')}: {item.get('text', item.get('detail', ''))}"
    return str(item)
