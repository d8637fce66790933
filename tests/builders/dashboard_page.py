"""The dashboard of a real controller, opened in a browser, and the controller with its fleet."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serving.contract import EngineReport, encode, engine_token
from serving.controller.app import create_app
from tests.builders.browser import Heard
from tests.builders.controller import ADMIN, SECRET, a_server, bearer, settings_in
from tests.builders.dashboard_world import World, a_world, fill_registry
from tests.builders.trace_server import a_trace_server

LONG_SECONDS = 86_400.0
"""Engines in miniature report when a test says so, and are reachable all the same."""


@dataclass
class LiveFleet:
    """A running controller with an hour behind it."""

    url: str
    world: World

    def post(self, report: EngineReport) -> None:
        """What an engine does every few seconds."""
        answer = httpx.post(
            f"{self.url}/internal/v1/engines/{report.engine_id}/report",
            content=encode(report),
            headers=bearer(engine_token(SECRET)),
            timeout=60,
        )
        assert answer.status_code == 204, answer.text

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The API, as the administrator."""
        answer = httpx.request(method, self.url + path, headers=bearer(ADMIN), timeout=60, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@contextlib.contextmanager
def a_live_fleet(
    folder: Path, *, n_adapters: int = 24, n_requests: int = 900, step_seconds: float = 120.0
) -> Iterator[LiveFleet]:
    """Registry, engines' traces and a controller with its loop."""
    world = a_world(n_adapters)
    with a_trace_server(world.engines) as traces:
        world.url = traces
        filling = fill_registry(
            folder, world, now=time.time(), n_requests=n_requests, step_seconds=step_seconds
        )
        # A browser's event loop may have this thread.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, filling).result()
        settings = settings_in(
            folder, engine_timeout_seconds=LONG_SECONDS, capacity_poll_seconds=0.5
        )
        with a_server(create_app(settings)) as url:
            yield LiveFleet(url, world)


@contextlib.contextmanager
def a_dashboard(
    context: Any, url: str, *, fragment: str = "", width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Any, Heard]]:
    """The page with the token entered, in a browser's context; what it says and asks for."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    heard = Heard()
    heard.listen(page)
    try:
        page.goto(f"{url}/dashboard#{fragment}")
        enter(page)
        yield page, heard
    finally:
        page.evaluate("localStorage.clear()")
        page.close()


def enter(page: Any, token: str = ADMIN) -> None:
    """Give the token."""
    page.fill("#token", token)
    page.get_by_role("button", name="Open").click()


def row_of(page: Any, name: str) -> Any:
    """A version's row in the table of adapters."""
    button = page.get_by_role("button", name=name, exact=True)
    return page.locator("#adapter-table tbody tr").filter(has=button)


def column(page: Any, title: str) -> list[str]:
    """The texts of one column of the table of adapters, from top to bottom."""
    heads = [text.strip() for text in page.locator("#adapter-table thead th").all_inner_texts()]
    place = heads.index(title) + 1
    return list(page.locator(f"#adapter-table tbody tr > :nth-child({place})").all_inner_texts())


def wait_for_text(page: Any, selector: str, text: str) -> None:
    """Until an element that matches shows the text."""
    page.locator(selector).filter(has_text=text).first.wait_for()


def look_at(page: Any, fragment: str) -> None:
    """Go where a link with this fragment leads."""
    page.evaluate("fragment => { location.hash = fragment; }", fragment)


def begin_at_the_top(page: Any) -> None:
    """As after a click beside everything: the next Tab goes to the page's first control."""
    page.evaluate(
        "() => { document.activeElement.blur(); getSelection().setPosition(document.body, 0); }"
    )


def focused(page: Any) -> dict[str, str]:
    """What has the focus: id, tag, text and how its outline is drawn."""
    found: dict[str, str] = page.evaluate(
        """() => {
          const node = document.activeElement;
          const text = node.children.length < 2 ? node.textContent : "";
          const outline = getComputedStyle(node).outlineStyle;
          return {id: node.id, tag: node.tagName, text, outline};
        }"""
    )
    return found


def show_tab(page: Any, state: str) -> None:
    """Tell the page that its tab is `hidden` or `visible`."""
    page.evaluate(
        """state => {
          const told = {hidden: state === "hidden", visibilityState: state};
          for (const [name, value] of Object.entries(told)) {
            Object.defineProperty(document, name, {configurable: true, get: () => value});
          }
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def ground_of(page: Any) -> str:
    """The page's background."""
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def ink_of_plot(page: Any) -> str:
    """Colour of a plot's numbers."""
    # Found and read at once: a redraw puts new texts in place of the old.
    tick = "document.querySelector('#hot .xtick text')"
    return str(page.evaluate(f"getComputedStyle({tick}).fill"))


def brightness(color: str) -> float:
    """Mean of red, green and blue, 0 to 255."""
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3]) / 3
