"""The dashboard in a real browser, over a real controller that engines report to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.contract import AdapterCounts
from serving.controller.app import create_app
from tests.builders.browser import Heard, a_browser
from tests.builders.controller import a_report, a_server, settings_in
from tests.builders.dashboard_page import (
    LiveFleet,
    a_dashboard,
    a_live_fleet,
    begin_at_the_top,
    brightness,
    column,
    enter,
    focused,
    ground_of,
    ink_of_plot,
    look_at,
    row_of,
    show_tab,
    wait_for_text,
)
from tests.builders.dashboard_world import JUDGED

CHOSEN = "adapter=acme%2Fsupport"
BUSIEST = "acme/support@2"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    with a_live_fleet(tmp_path_factory.mktemp("fleet")) as started:
        yield started


@pytest.fixture(scope="module")
def browser(fleet: LiveFleet) -> Iterator[Any]:
    """One context for all tests: it keeps plotly's script as a person's browser does."""
    with a_browser() as started:
        yield started.new_context(reduced_motion="reduce")


@pytest.fixture(scope="module")
def open_page(browser: Any, fleet: LiveFleet) -> Iterator[tuple[Any, Heard]]:
    with a_dashboard(browser, fleet.url) as opened:
        yield opened


@pytest.fixture
def desk(open_page: tuple[Any, Heard]) -> tuple[Any, Heard]:
    """One page at 1280 that stays open, as it is without a fragment, with nothing said yet."""
    page, heard = open_page
    look_at(page, "")
    page.bring_to_front()
    row_of(page, BUSIEST).wait_for()
    heard.complaints.clear()
    return page, heard


def test_every_panel_is_filled_without_a_complaint_and_from_here_alone(
    open_page: tuple[Any, Heard], fleet: LiveFleet
) -> None:
    page, heard = open_page
    look_at(page, CHOSEN)

    wait_for_text(page, "#engines tbody tr", "engine-1")
    wait_for_text(page, "#troubles tbody tr", "NaN in the first answer")
    wait_for_text(page, "#troubles tbody tr", "refund_flow")
    for plot in ("curve", "hot", "loads", "timeline"):
        page.locator(f"#{plot} .main-svg").first.wait_for()
    page.locator("#heat image").wait_for()
    wait_for_text(page, "#curve .annotation-text", "today: 8")
    wait_for_text(page, "#curve-reading", "of requests miss")
    wait_for_text(page, "#reasons li", "would miss with")
    row_of(page, BUSIEST).wait_for()
    wait_for_text(page, "#version-table tbody tr", "@3")
    wait_for_text(page, "#audit-table tbody tr", "stark/triage@1")
    wait_for_text(page, "#audit-state", "live")

    assert heard.complaints == []
    assert {urlsplit(url).netloc for url in heard.requests} <= {urlsplit(fleet.url).netloc, ""}
    failures = page.locator(".failure:visible, .alarm:visible").all_inner_texts()
    assert failures == []


def test_numbers_move_while_engines_report_and_take_nothing_from_the_reader(
    desk: tuple[Any, Heard], fleet: LiveFleet
) -> None:
    page, heard = desk
    row_of(page, BUSIEST).wait_for()
    page.locator("#heat image").wait_for()
    page.locator("#curve .main-svg").first.wait_for()
    before = int(row_of(page, BUSIEST).locator("td").nth(2).inner_text())
    button = page.get_by_role("button", name=BUSIEST, exact=True)
    button.focus()
    # What is above may grow; the browser keeps what is read in its place.
    button.evaluate("node => node.scrollIntoView({block: 'start'})")
    place = button.bounding_box()["y"]

    engine = fleet.world.engines["engine-0"]
    for at in range(5):
        engine.use(BUSIEST, at=engine.events[-1].at + at)
    fleet.post(fleet.world.report("engine-0"))

    wait_for_text(page, "#adapter-table tbody tr", str(before + 5))
    assert button.evaluate("node => node === document.activeElement")
    assert button.bounding_box()["y"] == place
    assert heard.complaints == []


def test_the_table_sorts_and_searches_and_a_reload_shows_the_same(desk: tuple[Any, Heard]) -> None:
    page, heard = desk
    row_of(page, BUSIEST).wait_for()
    head = page.locator("#adapter-table thead th").filter(has_text="evicted slot")

    head.get_by_role("button").click()
    page.locator('#adapter-table th[aria-sort="descending"]').get_by_text("evicted").wait_for()
    downward = [int(text) for text in column(page, "evicted slot")]
    page.fill("#search", "globex")
    row_of(page, BUSIEST).wait_for(state="detached")
    page.reload()
    row_of(page, "globex/sql@1").wait_for()

    assert downward == sorted(downward, reverse=True)
    assert downward[0] > downward[-1]
    assert page.input_value("#search") == "globex"
    assert all(name.startswith("globex/") for name in column(page, "version"))
    assert head.get_attribute("aria-sort") == "descending"
    assert "search=globex" in page.url
    assert heard.complaints == []


def test_a_gate_report_opens_with_its_style(desk: tuple[Any, Heard]) -> None:
    page, heard = desk
    page.get_by_role("button", name=BUSIEST, exact=True).click()
    wait_for_text(page, "#h-versions", "acme/support")
    with page.expect_popup() as opened:
        page.get_by_role("button", name=f"Report of {JUDGED}").click()
    report = opened.value
    heard.listen(report)
    report.locator("#verdict").wait_for()

    assert report.locator("#verdict").inner_text() == "FAIL"
    radius = "getComputedStyle(document.querySelector('.summary')).borderRadius"
    assert report.evaluate(radius) != "0px", "the style sheet was refused"
    assert "acme" in page.url
    assert heard.complaints == []


def test_everything_is_reached_by_keyboard_and_nothing_traps(desk: tuple[Any, Heard]) -> None:
    page, _ = desk
    look_at(page, CHOSEN)
    row_of(page, BUSIEST).wait_for()
    wait_for_text(page, "#version-table tbody tr", "@3")
    begin_at_the_top(page)

    seen = []
    for _ in range(200):
        page.keyboard.press("Tab")
        seen.append(focused(page))
        if seen[-1]["tag"] == "BODY":
            break

    assert seen[0]["text"] == "Skip to the panels"
    assert seen[-1]["tag"] == "BODY", "the focus never left the page again"
    reached = {item["id"] or item["text"] for item in seen}
    assert {
        "theme", "window", "log-slots", "read-slots", "goal-kind", "goal-value", "span",
        "traffic-engine", "auto", "off", "search", "rows", "requests", "TTFT p99", BUSIEST,
        "report",
    } <= reached  # fmt: skip
    assert [item for item in seen[:-1] if item["outline"] == "none"] == []


def test_keys_alone_skip_sort_and_choose(desk: tuple[Any, Heard]) -> None:
    page, heard = desk
    row_of(page, BUSIEST).wait_for()
    begin_at_the_top(page)

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    skipped_to = page.evaluate("document.activeElement.id")
    page.get_by_role("button", name="rank", exact=True).focus()
    page.keyboard.press("Enter")
    page.locator('#adapter-table th[aria-sort="descending"]').get_by_text("rank").wait_for()
    page.get_by_role("button", name="acme/sql@1", exact=True).focus()
    page.keyboard.press("Enter")
    wait_for_text(page, "#h-versions", "acme/sql")

    assert skipped_to == "content"
    assert "sort=rank" in page.url
    assert page.evaluate("document.activeElement.textContent") == "acme/sql@1"
    assert heard.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_and_never_the_page(desk: tuple[Any, Heard], scheme: str) -> None:
    page, heard = desk
    page.set_viewport_size({"width": 390, "height": 900})
    page.emulate_media(color_scheme=scheme)
    look_at(page, CHOSEN)
    try:
        page.locator("#timeline .main-svg").first.wait_for()
        page.locator("#heat image").wait_for()
        wait_for_text(page, "#version-table tbody tr", "@3")

        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        box = page.locator("#adapter-table").locator("xpath=..")
        assert box.evaluate("node => node.scrollWidth > node.clientWidth")
        assert heard.complaints == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")


def test_dark_is_the_systems_choice_until_a_person_chooses(desk: tuple[Any, Heard]) -> None:
    page, heard = desk
    page.locator("#hot .xtick text").first.wait_for()
    first = ink_of_plot(page)

    page.emulate_media(color_scheme="dark")
    page.locator(f"#hot .xtick text:not([style*='{first}'])").first.wait_for()
    dark = (brightness(ground_of(page)), brightness(ink_of_plot(page)))
    page.select_option("#theme", "light")
    page.locator(f"#hot .xtick text[style*='{first}']").first.wait_for()
    light = (brightness(ground_of(page)), brightness(ink_of_plot(page)))
    page.reload()
    row_of(page, BUSIEST).wait_for()
    kept = (page.input_value("#theme"), brightness(ground_of(page)))
    page.select_option("#theme", "auto")
    page.emulate_media(color_scheme="light")

    assert dark[0] < 64 < 128 < dark[1]
    assert light[0] > 192 > 128 > light[1]
    assert kept == ("light", light[0])
    assert heard.complaints == []


def test_ten_thousand_adapters_are_pages_of_a_few(
    desk: tuple[Any, Heard], fleet: LiveFleet
) -> None:
    names = [f"tenant-{at % 50}/task-{at // 50}@1" for at in range(10_000)]
    counts = [AdapterCounts(name, requests=at % 900) for at, name in enumerate(names)]
    fleet.post(a_report("engine-9", counts=counts, is_ready=True))
    try:
        page, heard = desk
        page.fill("#search", "tenant-")
        wait_for_text(page, "#page-where", "1 to 25 of 10,000")
        page.get_by_role("button", name="Next page").click()
        wait_for_text(page, "#page-where", "26 to 50 of 10,000")
        rows = page.locator("#adapter-table tbody tr").count()
        page.fill("#search", "task-199@")
        wait_for_text(page, "#page-where", "1 to 25 of 50")

        assert rows == 25
        assert page.locator("#adapter-table tbody tr").count() == 25
        assert heard.complaints == []
    finally:
        fleet.ask("DELETE", "/v1/engines/engine-9")


def test_the_switch_is_kept_and_the_audit_says_so_at_once(
    desk: tuple[Any, Heard], fleet: LiveFleet
) -> None:
    page, heard = desk
    wait_for_text(page, "#audit-state", "live")
    page.locator('[data-mode="auto"][aria-pressed="true"]').wait_for()

    page.locator('[data-mode="off"]').click()
    page.locator('[data-mode="off"][aria-pressed="true"]').wait_for()
    wait_for_text(page, "#residency-said", "every slot goes by LRU alone")
    wait_for_text(page, "#audit-table tbody tr", "residency")

    assert fleet.ask("GET", "/v1/capacity")["residency"] == {"mode": "off", "wishes": {}}
    assert heard.complaints == []
    fleet.ask("PUT", "/v1/capacity/residency", json={"mode": "auto"})


def test_another_goal_and_another_window_are_asked_for_and_kept(desk: tuple[Any, Heard]) -> None:
    page, heard = desk
    wait_for_text(page, "#plan thead", "recommended")
    page.fill("#goal-value", "40")
    wait_for_text(page, "#reasons li", "with today's 8 slots")
    page.fill("#goal-value", "0")
    said = page.locator("#goal-error").inner_text()
    page.select_option("#window", "24h")
    page.locator("#read-slots").fill("1")
    wait_for_text(page, "#curve-reading", "% of requests miss")

    assert said == "A goal is above 0 and below 100 %."
    assert "goal=miss_ratio%3A40" in page.url
    assert "window=24h" in page.url
    assert heard.complaints == []


def test_a_hidden_tab_asks_for_nothing_until_it_is_seen_again(
    browser: Any, fleet: LiveFleet
) -> None:
    with a_dashboard(browser, fleet.url) as (page, heard):
        row_of(page, BUSIEST).wait_for()
        wait_for_text(page, "#status", "Read at")

        show_tab(page, "hidden")
        wait_for_text(page, "#audit-state", "paused")
        page.wait_for_load_state("networkidle")
        page.clock.install()
        n_before = len(heard.requests)
        page.clock.run_for(60_000)
        n_hidden = len(heard.requests)
        show_tab(page, "visible")
        page.clock.run_for(1000)
        wait_for_text(page, "#audit-state", "live")

        assert n_hidden == n_before
        assert len(heard.requests) > n_hidden


def test_a_wrong_token_is_said_and_forgotten(desk: tuple[Any, Heard]) -> None:
    page, _ = desk
    row_of(page, BUSIEST).wait_for()
    page.get_by_role("button", name="Forget token").click()
    enter(page, "nobody's")
    page.locator("#status.bad").wait_for()

    assert page.locator("#login").is_visible()
    assert not page.locator("#content").is_visible()
    assert page.evaluate("sessionStorage.length") == 0
    enter(page)
    row_of(page, BUSIEST).wait_for()


def test_a_controller_that_is_silent_is_said_plainly_and_comes_back(
    desk: tuple[Any, Heard],
) -> None:
    page, _ = desk
    row_of(page, BUSIEST).wait_for()

    page.route("**/v1/**", lambda route: route.abort())
    page.locator("#alarm").wait_for()
    said = page.locator("#alarm").inner_text()
    is_kept = row_of(page, BUSIEST).is_visible()
    page.unroute("**/v1/**")
    page.locator("#alarm").wait_for(state="hidden")

    assert said == "The controller does not answer. Numbers below are from before."
    assert is_kept
    assert page.locator(".failure:visible").count() == 0


def test_an_empty_fleet_says_what_to_do(browser: Any, tmp_path: Path) -> None:
    with a_server(create_app(settings_in(tmp_path))) as url, a_dashboard(browser, url) as opened:
        page, heard = opened
        wait_for_text(page, "#status", "Read at")

        texts = {
            name: page.locator(f"#{name}-empty").inner_text()
            for name in ("engines", "curve", "adapters", "audit", "versions", "heat")
        }
        assert "loraplane up" in texts["engines"]
        assert "loraplane capacity" in texts["curve"]
        assert "loraplane push" in texts["adapters"]
        assert "loraplane tenant create" in texts["audit"]
        assert all(texts.values())
        assert heard.complaints == []
