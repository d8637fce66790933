"""The dashboard: its own script, style and page, and plotly's bundled script. Nothing from afar."""

from __future__ import annotations

from serving.controller.dashboard.assets import Asset, load_asset

__all__ = ["Asset", "load_asset"]
