"""/dashboard: the page and its files. Open to all: they hold no data, the page asks for a token."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Response

from adapters.parity.report_page import STYLE_HASH
from serving.controller.dashboard import Asset, load_asset
from serving.controller.errors import NotFound

router = APIRouter(tags=["operations"])

EMPTY_STYLE_HASH = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
"""SHA-256 of nothing: plotly makes an empty <style> and fills it by insertRule, which no policy
forbids; a <style> with text in it stays refused."""
MAPLIBRE_STYLE_HASH = "sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o="
"""plotly 7.1's script adds the style sheet of its maps while it loads. No plot here is a map:
without this, only the console would complain."""
_STYLES = (STYLE_HASH, EMPTY_STYLE_HASH, MAPLIBRE_STYLE_HASH)
POLICY = "; ".join(
    (
        "default-src 'self'",
        # A report that is opened from the page inherits its policy, so its style is named as well.
        "style-src 'self' " + " ".join(f"'{style}'" for style in _STYLES),
        # plotly draws the cells of a heat map into a picture of its own.
        "img-src 'self' data:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
_YEAR_SECONDS = 31_536_000


@router.get("/dashboard", include_in_schema=False)
async def dashboard(
    if_none_match: Annotated[str, Header()] = "", accept_encoding: Annotated[str, Header()] = ""
) -> Response:
    """The page; it asks for a token and reads the API with it."""
    return await dashboard_asset("index.html", if_none_match, accept_encoding)


@router.get("/dashboard/{name}", include_in_schema=False)
async def dashboard_asset(
    name: str,
    if_none_match: Annotated[str, Header()] = "",
    accept_encoding: Annotated[str, Header()] = "",
) -> Response:
    """One of the page's files: 304 for who has it already, compressed for who can read that."""
    asset = await asyncio.to_thread(load_asset, name)
    if asset is None:
        raise NotFound(kind="file", name=name)
    headers = _headers(asset)
    if asset.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    if asset.gzipped is not None and _takes_gzip(accept_encoding):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.gzipped, media_type=asset.media_type, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)


def _headers(asset: Asset) -> dict[str, str]:
    kept = f"public, max-age={_YEAR_SECONDS}, immutable" if asset.is_immutable else "no-cache"
    return {
        "Cache-Control": kept,
        "Content-Security-Policy": POLICY,
        # Weak: both encodings have it.
        "ETag": f"W/{asset.etag}",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }


def _takes_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
