"""values.yaml's comments: each value's path, default and text. Reads text, knows no template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_SECTION = "# --- "
_TEXT = "# -- "
_KEY = re.compile(r"^( *)([A-Za-z0-9_.-]+):( |$)")


@dataclass(frozen=True, slots=True)
class Value:
    """One value with a text of its own."""

    section: str
    path: str
    """`engine.drain.leaveSeconds`"""
    default: Any
    text: str


class CommentMisplaced(ValueError):
    """A `# -- ` text that is not directly above a key."""


def described_values(source: str) -> list[Value]:
    """Every value that has a text, in the file's order.

    Raises:
        CommentMisplaced: a text belongs to no key.
    """
    tree = yaml.safe_load(source)
    return [
        Value(section, ".".join(path), _at(tree, path), text)
        for section, path, text in _keys(source)
        if text is not None
    ]


def undescribed_leaves(source: str) -> list[str]:
    """Paths of values that neither have a text nor lie below one that has."""
    described = {value.path for value in described_values(source)}
    return [
        path
        for path in _leaves(yaml.safe_load(source))
        if not any(path == known or path.startswith(known + ".") for known in described)
    ]


def _keys(source: str) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """(section, path, text) of every key that stands on a line of its own."""
    section, text = "", None
    stack: list[tuple[int, str]] = []
    for number, line in enumerate(source.splitlines(), start=1):
        stripped = line.strip()
        if line.startswith(_SECTION):
            section = line.removeprefix(_SECTION)
        elif stripped.startswith(_TEXT):
            text = stripped.removeprefix(_TEXT)
        elif (match := _KEY.match(line)) is not None:
            indent = len(match[1])
            stack = [*(item for item in stack if item[0] < indent), (indent, match[2])]
            yield section, tuple(name for _, name in stack), text
            text = None
        elif text is not None:
            raise CommentMisplaced(f"line {number}: {text!r} stands above no key")


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield ".".join(path)
