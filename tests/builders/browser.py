"""A headless Chromium that notes whatever a page complains of or asks the network for."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Heard:
    """What pages of one browser said since they were opened."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


@contextlib.contextmanager
def a_browser() -> Iterator[Any]:
    """A running Chromium; skips the test that asks for one where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not start as root, which tests in containers mostly are.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_file(
    browser: Any, path: Path, *, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Any, Heard]]:
    """A page opened from disk, and what it says."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    heard = Heard()
    heard.listen(page)
    try:
        page.goto(path.as_uri())
        yield page, heard
    finally:
        page.close()
