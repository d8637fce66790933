"""The dashboard's static files. No script from afar."""

from __future__ import annotations

from importlib.resources import files

_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def load_asset(name: str) -> tuple[bytes, str] | None:
    """(bytes, media type) of one of the dashboard's files; None for any other name."""
    media_type = _MEDIA_TYPES.get(name)
    if media_type is None:
        return None
    return files(__name__).joinpath(name).read_bytes(), media_type
