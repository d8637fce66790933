"""What the dashboard is made of: complete, kept by browsers, and allowed to do little."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files

import pytest

from serving.controller import dashboard
from serving.controller.dashboard import load_asset
from serving.controller.dashboard.assets import plotly_name
from tests.builders.controller import Controller
from tests.builders.problems import assert_problem

FILES = sorted(
    file.name
    for file in files(dashboard).iterdir()
    if file.name.endswith((".js", ".css", ".html", ".svg"))
)
MODULES = [name for name in FILES if name.endswith(".js")]


def text_of(name: str) -> str:
    asset = load_asset(name)
    assert asset is not None
    return asset.body.decode()


@pytest.mark.parametrize("name", FILES)
async def test_every_file_is_served_with_a_strict_policy(controller: Controller, name: str) -> None:
    nobody = await controller.client(None)

    answer = await nobody.get(f"/dashboard/{name}")

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", [name for name in FILES if name != "icon.svg"])
def test_nothing_is_asked_for_from_afar(name: str) -> None:
    assert re.findall(r"https?://", text_of(name)) == []


@pytest.mark.parametrize("name", MODULES)
def test_data_only_ever_becomes_text(name: str) -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.srcdoc"

    assert re.findall(ways, text_of(name)) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_read_in_one_go_and_asks_for_files_that_exist(name: str) -> None:
    text = text_of(name)

    imported = re.findall(r'from "\./([a-z_]+\.js)"', text)

    assert len(text.splitlines()) <= 350
    assert text.startswith("// ")
    assert set(imported) <= set(MODULES)


def test_what_the_page_asks_for_is_there() -> None:
    asked = re.findall(r'(?:src|href|data-plotly)="/dashboard/([^"]+)"', text_of("index.html"))

    assert plotly_name() in asked
    assert [name for name in asked if load_asset(name) is None] == []


async def test_a_browser_keeps_plotly_for_ever_and_gets_it_compressed(
    controller: Controller,
) -> None:
    nobody = await controller.client(None)
    path = f"/dashboard/{plotly_name()}"

    small = await nobody.get(path, headers={"Accept-Encoding": "gzip"})
    whole = await nobody.get(path, headers={"Accept-Encoding": "gzip;q=0"})

    assert "immutable" in small.headers["cache-control"]
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < 2_000_000 < len(whole.content)
    assert "content-encoding" not in whole.headers
    assert small.content == whole.content
    assert small.headers["etag"] == whole.headers["etag"]
    assert small.headers["vary"] == "Accept-Encoding"


async def test_other_files_are_asked_for_again_and_not_sent_again(controller: Controller) -> None:
    nobody = await controller.client(None)

    first = await nobody.get("/dashboard/app.js")
    again = await nobody.get("/dashboard/app.js", headers={"If-None-Match": first.headers["etag"]})
    other = await nobody.get("/dashboard/app.js", headers={"If-None-Match": '"another"'})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert other.status_code == 200


@pytest.mark.parametrize(
    "name", ["secret", "__init__.py", "assets.py", "..%2Fauth.py", "plotly.js"]
)
async def test_no_other_file_is_served(controller: Controller, name: str) -> None:
    nobody = await controller.client(None)

    answer = await nobody.get(f"/dashboard/{name}")

    assert answer.status_code == 404
    if "%" not in name:
        assert_problem(answer, 404, "not_found")


def test_compressed_bytes_are_the_same_bytes() -> None:
    asset = load_asset("style.css")

    assert asset is not None
    assert asset.gzipped is not None
    assert gzip.decompress(asset.gzipped) == asset.body
