"""The dashboard's files by name: an allow-list, so that a path can never leave this folder.

plotly's script comes from the installed package `plotly` and has its version in its name: browsers
may keep it for ever. Everything else is asked for again with its ETag.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

_PAGE = "index.html"
_PLOTLY_NAME_IN_PAGE = "plotly.min.js"
_SCRIPT = "text/javascript; charset=utf-8"
_MEDIA_TYPES = {
    _PAGE: "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "panels.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_MODULES = (
    "adapter_table.js", "api.js", "app.js", "audit.js", "charts.js", "curve.js", "elements.js",
    "health.js", "notation.js", "plan.js", "residency.js", "slots.js", "theme.js", "timeline.js",
    "traffic.js", "view_state.js",
)  # fmt: skip
_MIN_COMPRESSED = 1024
"""Below that, compression saves less than a packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    gzipped: bytes | None
    """The same, compressed; None where that saves nothing."""
    media_type: str
    etag: str
    """Strong, with its quotes; of the uncompressed bytes."""
    is_immutable: bool
    """Its name has its version: it never changes."""


def load_asset(name: str) -> Asset | None:
    """One of the dashboard's files; None for any other name.

    Read and compressed at the first call (plotly's 4.8 MB take about 0.2 s), then kept.
    """
    if name == plotly_name():
        return _load_plotly()
    if name in _MEDIA_TYPES or name in _MODULES:
        return _load_own(name)
    return None


@functools.cache
def plotly_name() -> str:
    """`plotly-7.1.0.min.js`, by the version of the installed package."""
    return f"plotly-{distribution('plotly').version}.min.js"


@functools.cache
def _load_plotly() -> Asset:
    path = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
    return _asset(path.read_bytes(), _SCRIPT, is_immutable=True)


@functools.cache
def _load_own(name: str) -> Asset:
    body = files(__package__).joinpath(name).read_bytes()
    if name == _PAGE:
        body = body.replace(_PLOTLY_NAME_IN_PAGE.encode(), plotly_name().encode())
    return _asset(body, _MEDIA_TYPES.get(name, _SCRIPT), is_immutable=False)


def _asset(body: bytes, media_type: str, *, is_immutable: bool) -> Asset:
    gzipped = gzip.compress(body, 6, mtime=0) if len(body) >= _MIN_COMPRESSED else None
    return Asset(
        body=body,
        gzipped=gzipped,
        media_type=media_type,
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        is_immutable=is_immutable,
    )
