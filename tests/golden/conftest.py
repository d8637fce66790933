"""`make golden` rewrites the golden files; the diff is reviewed like code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name beside the tests."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "files" / name
        if request.config.getoption("--update-golden", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, "review, then `make golden`"

    return compare
