"""The gate's report in a real browser: nothing missing, nothing asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.parity.report_page import render_page
from serving.cli.main import main
from serving.controller.app import create_app
from serving.controller.lifecycle import Event, State, Verdict
from tests.builders.browser import a_browser, open_file
from tests.builders.controller import (
    ADMIN,
    a_controller,
    a_server,
    bearer,
    form_of,
    settings_in,
)
from tests.builders.gate_reports import KINDS, report_of

NAME = "acme/support@1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with a_browser() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = {kind: folder / f"{kind}.html" for kind in KINDS}
    for kind, path in paths.items():
        path.write_text(render_page(report_of(kind)), encoding="utf-8")
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_opens_from_disk_and_asks_for_nothing_else(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    with open_file(browser, pages[kind]) as (page, heard):
        verdict = page.locator("#verdict")

        assert verdict.inner_text() == report_of(kind)["verdict"]
        assert verdict.bounding_box()["y"] < 300, "the verdict is seen without scrolling"
        assert report_of(kind)["version"] in page.title()
        assert heard.complaints == []
        assert heard.requests == [pages[kind].as_uri()]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_fits_phones_and_desks(
    browser: Any, pages: dict[str, Path], width: int, scheme: str
) -> None:
    for kind in ("failing_on_a_segment", "contaminated"):
        with open_file(browser, pages[kind], width=width, scheme=scheme) as (page, _):
            assert page.evaluate("document.documentElement.scrollWidth") <= width, kind
            dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

        shades = [int(part) for part in ground.strip("rgb()").split(",")]
        assert dark == (scheme == "dark")
        assert (sum(shades) < 3 * 64) == dark


def test_the_failing_segment_is_drawn_and_divergent_answers_stand_side_by_side(
    browser: Any, pages: dict[str, Path]
) -> None:
    with open_file(browser, pages["failing_on_a_segment"]) as (page, _):
        row = page.get_by_role("row").filter(has_text="refund_flow").first
        point = row.locator("svg.forest .point.worse")
        curves = page.locator(".wide svg.curves path.curve")
        sides = page.locator("details.divergence[open] .side")

        assert "regression" in row.inner_text()
        assert point.count() == 1
        assert [curve.bounding_box()["width"] > 100 for curve in curves.all()] == [True] * 3
        left, right = (sides.nth(i).bounding_box() for i in (0, 1))
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] <= right["x"]
        assert page.locator("details.divergence[open] mark").count() >= 2


def test_cases_open_without_a_script(browser: Any, pages: dict[str, Path]) -> None:
    with open_file(browser, pages["passing"]) as (page, heard):
        table = page.locator("#cases table")
        assert not table.is_visible()

        page.locator("#cases summary").click()

        assert table.is_visible()
        assert heard.complaints == []


def test_hostile_texts_do_nothing(browser: Any, tmp_path: Path) -> None:
    attack = "</title></style><script>document.title='owned'</script><img src=x onerror=owned()>"
    report = report_of("failing_on_a_segment") | {"version": attack, "first_line": attack}
    report["reasons"] = [{"code": attack, "text": attack}]
    report["divergences"] = [{**row, "engine_text": attack} for row in report["divergences"][:3]]
    path = tmp_path / "hostile.html"
    path.write_text(render_page(report), encoding="utf-8")

    with open_file(browser, path) as (page, heard):
        assert page.title().startswith("</title>")
        assert page.locator("script, img").count() == 0
        assert heard.complaints == []
        assert heard.requests == [path.as_uri()]


async def _judge(folder: Path, report: dict[str, Any]) -> None:
    """A version in the registry with this report as the gate's."""
    async with a_controller(folder) as controller:
        tenant = await controller.tenant("acme", ["push", "read"])
        await tenant.post("/v1/tenants/acme/adapters/support/versions", files=form_of())
        await controller.lead(NAME, Event.ACCEPT)
        work = controller.context.repository.work
        claimed = await work.claim_due([State.EVALUATING], lease_seconds=9, owner="test")
        assert claimed is not None
        verdict = Verdict(report["verdict"])
        token = str(claimed.lock_token)
        assert await work.conclude(NAME, token, verdict=verdict, report=report)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a controller that has judged one version."""
    folder = tmp_path_factory.mktemp("controller")
    # The browser's own event loop has this thread.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _judge(folder, report_of("failing_on_a_segment"))).result()
    with a_server(create_app(settings_in(folder), has_loop=False)) as url:
        yield url


def test_the_command_line_writes_the_page_that_the_browser_opens(
    browser: Any, running: str, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "report.html"

    with pytest.raises(SystemExit) as ended:
        main(["report", NAME, "--html", str(path), "--url", running, "--token", ADMIN])

    assert ended.value.code in {0, None}
    assert str(path) in capsys.readouterr().out
    with open_file(browser, path) as (page, heard):
        assert page.locator("#verdict").inner_text() == "FAIL"
        assert heard.complaints == []


def test_a_page_over_http_may_do_as_little_as_one_from_disk(running: str) -> None:
    url = f"{running}/v1/tenants/acme/adapters/support/versions/1/report"

    answer = httpx.get(url, headers={**bearer(ADMIN), "Accept": "text/html"})

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
