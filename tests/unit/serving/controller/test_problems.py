"""Every error of ours has a status and a line in docs/errors.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.errors import AdapterError
from serving.controller import errors_page, problems
from serving.controller.errors import ControllerError

DOCS = Path(__file__).parents[4] / "docs" / "errors.md"


def subclasses(base: type[Exception]) -> Iterator[type[Exception]]:
    yield base
    for child in base.__subclasses__():
        yield from subclasses(child)


OURS = [*subclasses(AdapterError), *subclasses(ControllerError)]


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_every_error_has_a_status(error: type[Exception]) -> None:
    assert 400 <= problems.status_of(error) < 600


def test_codes_are_unique() -> None:
    codes = [error.__dict__.get("code") for error in OURS if "code" in error.__dict__]

    assert len(codes) == len(set(codes))
    assert all("code" in error.__dict__ for error in OURS)


def test_an_error_that_is_not_ours_has_no_status() -> None:
    with pytest.raises(KeyError):
        problems.status_of(RuntimeError)


def test_the_errors_page_lists_every_error() -> None:
    assert DOCS.read_text() == errors_page.render(), "run python -m serving.controller.errors_page"
