"""Pictures of a gate report for the docs: `python -m bench.report_picture REPORT.json`.

Takes the JSON that `loraplane report NAME --json` prints, and a Chromium of this machine. The
picture ends below the plot of the distributions: what follows needs a screen to be read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from adapters.parity.report_page import render_page

WIDTH, SCALE = 1280, 1
LAST = "#numeric figure"
BELOW = 24
FILES = {"light": "report.png", "dark": "report-dark.png"}


def take_pictures(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write one picture a colour scheme into `folder`."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        page_file = Path(temporary) / "report.html"
        page_file.write_text(render_page(report), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        try:
            return [
                _take(browser, page_file, scheme, folder / name) for scheme, name in FILES.items()
            ]
        finally:
            browser.close()


def _take(browser: Any, page_file: Path, scheme: str, target: Path) -> Path:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": 900}, color_scheme=scheme, device_scale_factor=SCALE
    )
    page.goto(page_file.as_uri())
    box = page.locator(LAST).bounding_box()
    height = box["y"] + box["height"] + BELOW
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
    page.screenshot(path=str(target), full_page=True, clip=clip)
    page.close()
    return target


def main(arguments: list[str] | None = None) -> int:
    """0: the pictures are written; their paths are printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="the JSON report")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder to write to")
    given = parser.parse_args(arguments)
    for path in take_pictures(json.loads(given.report.read_text()), given.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
