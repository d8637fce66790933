"""A chain of writes names what they have touched, and a chain with a hole names nothing."""

from __future__ import annotations

import pytest

from serving.controller.registry.changes import Changes, Mark, Touched
from serving.controller.registry.tables import AliasRow, VersionRow

MARKS = [Mark(number, 1000 + number) for number in range(5)]


def version(name: str) -> Touched:
    return {VersionRow: frozenset({(name,)})}


@pytest.fixture
def changes() -> Changes:
    changes = Changes()
    changes.note(MARKS[0], MARKS[1], version("a"))
    changes.note(MARKS[1], MARKS[2], {AliasRow: frozenset({("t", "x")})})
    changes.note(MARKS[2], MARKS[3], version("b"))
    return changes


def test_all_links_of_a_chain_count(changes: Changes) -> None:
    assert changes.between(MARKS[0], MARKS[3]) == {
        VersionRow: {("a",), ("b",)}, AliasRow: {("t", "x")},
    }  # fmt: skip
    assert changes.between(MARKS[2], MARKS[3]) == version("b")
    assert changes.between(MARKS[3], MARKS[3]) == {}


def test_a_write_of_somebody_else_leaves_a_hole(changes: Changes) -> None:
    theirs = Mark(4, 77)
    changes.note(theirs, Mark(5, 78), version("c"))

    assert changes.between(MARKS[3], theirs) is None
    assert changes.between(MARKS[3], Mark(5, 78)) is None
    assert changes.between(theirs, Mark(5, 78)) == version("c")


def test_a_number_that_comes_again_with_another_token_is_another_content(changes: Changes) -> None:
    """A registry that was restored, or that a controller without tokens has written."""
    assert changes.between(Mark(1, 5), MARKS[3]) is None
    assert changes.between(Mark(0, MARKS[1].token), MARKS[3]) is None


def test_a_write_past_the_mapper_is_a_hole(changes: Changes) -> None:
    changes.note(MARKS[3], MARKS[4], None)

    assert changes.between(MARKS[2], MARKS[4]) is None
    assert changes.between(MARKS[2], MARKS[3]) == version("b")


def test_a_chain_that_is_too_long_is_forgotten_from_its_old_end() -> None:
    changes = Changes()
    for number in range(1000):
        changes.note(Mark(number, number), Mark(number + 1, number + 1), version(str(number)))

    assert changes.between(Mark(0, 0), Mark(1000, 1000)) is None
    assert changes.between(Mark(990, 990), Mark(1000, 1000)) == {
        VersionRow: {(str(number),) for number in range(990, 1000)}
    }
