"""The page as a whole: its head, its parts in the order in which people ask, its contents. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from adapters.parity.report_page.case_section import render_cases
from adapters.parity.report_page.comparison_section import render_comparisons
from adapters.parity.report_page.control_section import render_controls
from adapters.parity.report_page.divergence_section import render_divergences
from adapters.parity.report_page.exclusions import render_exclusions
from adapters.parity.report_page.judge_section import render_judge
from adapters.parity.report_page.markup import Html, clip, document, element, join, style_sheet
from adapters.parity.report_page.numeric_section import render_numeric
from adapters.parity.report_page.reading import Json, mapping, text
from adapters.parity.report_page.record_section import render_record
from adapters.parity.report_page.score_section import render_scores
from adapters.parity.report_page.summary import render_summary, verdict_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page asks the browser to refuse: everything but its own style."""


_STYLE = files(__package__ or __name__).joinpath("style.css").read_text(encoding="utf-8")
STYLE_HASH = f"sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}"
"""The style sheet as a Content-Security-Policy names it, for pages that open a report."""


def render_page(report: Mapping[str, Any]) -> str:
    """One self-contained HTML page of a report's JSON, of format 1 or 2, whole or given up early.

    Every text of the report is shown as text. What the report does not have, or has as another
    type, is shown as undefined; nothing raises. Lists are bounded and say how much they leave out.
    """
    sections = _sections(report)
    body = element(
        "body",
        element("a", "Skip to the verdict", href="#verdict", class_="skip"),
        element(
            "main",
            render_summary(report),
            _contents(sections) if sections else None,
            *[part for _, _, part in sections],
        ),
        _foot(report),
    )
    return document(_head(report), body)


def _sections(report: Json) -> list[tuple[str, str, Html]]:
    """(anchor, short title, part); none for a report that was given up before any measurement."""
    if not mapping(report, "suite") and not mapping(report, "numeric"):
        return []
    parts = [
        ("excluded", "Left out", render_exclusions(report)),
        ("task", "Task score", render_comparisons(report)),
        ("numeric", "Numeric parity", render_numeric(report)),
        ("divergences", "Divergences", render_divergences(report)),
        ("controls", "Controls", render_controls(report)),
        ("scores", "Scores", render_scores(report)),
        ("judge", "Judge", render_judge(report)),
        ("record", "Record", render_record(report)),
        ("cases", "Cases", render_cases(report)),
    ]
    return [(anchor, title, part) for anchor, title, part in parts if part is not None]


def _contents(sections: list[tuple[str, str, Html]]) -> Html:
    links = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    return element("nav", element("ol", *links), aria_label="Contents")


def _head(report: Json) -> Html:
    title = f"{clip(text(report, 'version') or 'A version', 120)}: {verdict_of(report)}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        style_sheet(_STYLE),
    )


def _foot(report: Json) -> Html:
    digest = text(report, "adapter_digest")
    parts = [
        "Made by loraplane from the JSON report, which has every number and every case. ",
        f"Adapter {clip(digest, 100)}." if digest else None,
    ]
    return element("footer", element("p", join(parts)))
