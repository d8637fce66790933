"""A gate report as one HTML page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from adapters.parity.report_page.page import POLICY, STYLE_HASH, render_page

__all__ = ["POLICY", "STYLE_HASH", "render_page"]
