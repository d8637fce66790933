"""Pictures of a running dashboard: `python -m bench.dashboard_picture URL TOKEN OUTDIR`.

Takes a controller's address and its admin token, and a Chromium of this machine: light and dark at
1280 pixels, and light at 390. `--adapter acme/support` has its versions in the picture.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

TIMEOUT_MILLISECONDS = 60_000
PLOTS = ("curve", "hot", "loads")
QUIET_MILLISECONDS = 1000
"""For the browser to lay out what it has drawn; nothing in the page says when it has."""


class Picture(NamedTuple):
    """One picture of the page."""

    name: str
    width: int
    scheme: str


PICTURES = (
    Picture("dashboard.png", 1280, "light"),
    Picture("dashboard-dark.png", 1280, "dark"),
    Picture("dashboard-narrow.png", 390, "light"),
)


def take_pictures(url: str, token: str, folder: Path, *, adapter: str = "") -> list[Path]:
    """Write all pictures into `folder`.

    Raises:
        playwright's TimeoutError: a panel stayed empty; the fleet needs some minutes of traffic.
    """
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    fragment = f"rows=25&adapter={quote(adapter, safe='')}" if adapter else "rows=25"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        try:
            return [
                _take(browser, f"{url}/dashboard#{fragment}", token, picture, folder)
                for picture in PICTURES
            ]
        finally:
            browser.close()


def _take(browser: Any, address: str, token: str, picture: Picture, folder: Path) -> Path:
    page = browser.new_page(
        viewport={"width": picture.width, "height": 900},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    page.set_default_timeout(TIMEOUT_MILLISECONDS)
    page.goto(address)
    page.fill("#token", token)
    page.get_by_role("button", name="Open").click()
    for plot in PLOTS:
        page.locator(f"#{plot} .main-svg").first.wait_for()
    page.locator("#heat image").wait_for()
    page.locator("#adapter-table tbody tr").first.wait_for()
    if "adapter=" in address:
        page.locator("#timeline .main-svg").first.wait_for()
    page.wait_for_timeout(QUIET_MILLISECONDS)
    # A bar that sticks to the screen has one place in a picture: the top.
    page.evaluate("document.querySelector('.top').style.position = 'static'")
    target = folder / picture.name
    page.screenshot(path=str(target), full_page=True)
    page.close()
    return target


def main(arguments: list[str] | None = None) -> int:
    """0: the pictures are written; their paths are printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="the controller, http://127.0.0.1:8400")
    parser.add_argument("token", help="the admin token")
    parser.add_argument("out", type=Path, help="folder to write to, docs/images")
    parser.add_argument("--adapter", default="", help="whose versions are shown: TENANT/ADAPTER")
    given = parser.parse_args(arguments)
    pictures = take_pictures(given.url.rstrip("/"), given.token, given.out, adapter=given.adapter)
    for path in pictures:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
