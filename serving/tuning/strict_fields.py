"""Reads a mapping of a YAML file field by field; what is unknown, missing, impossible or said twice
is an error.

Pure. Each error names the field by its path (`classes[1].prompt.median`) and what would be right.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import yaml


class FieldInvalid(ValueError):
    """A field that cannot be used; `field` and `problem` say where and why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}" if field else problem)


def parse_yaml(text: str) -> Any:
    """The document of a YAML or JSON file.

    Raises:
        FieldInvalid: it is none, or a mapping says a name twice, of which YAML drops the first.
    """
    try:
        return yaml.load(text, Loader=_OnceLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: a date that there is not.
        raise FieldInvalid("", str(exc)) from exc


class _OnceLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise FieldInvalid("", f"line {line}: {key.value!r} is there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Fields:
    """One mapping, the names that it may have, and where in the document it is."""

    def __init__(self, values: Any, *, known: Iterable[str], path: str = "") -> None:
        known = tuple(known)
        self._path = path
        if not isinstance(values, Mapping):
            raise FieldInvalid(path, f"{values!r} is not a mapping of {', '.join(known)}")
        self._values = values
        for name in values:
            if name not in known:
                raise FieldInvalid(self.path_of(str(name)), f"is not a field{nearest(name, known)}")

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path_of(self, name: str) -> str:
        """The field's place in the document."""
        return f"{self._path}.{name}" if self._path else name

    def value(self, name: str) -> Any:
        """A field of any form.

        Raises:
            FieldInvalid: it is missing.
        """
        if name not in self._values:
            raise FieldInvalid(self.path_of(name), "is missing")
        return self._values[name]

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = default if name not in self._values and default is not None else self.value(name)
        if not isinstance(value, str) or not value:
            raise FieldInvalid(self.path_of(name), f"{value!r} is not a text")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of at least one text."""
        value = self.value(name)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(one, str) for one in value)
        ):
            raise FieldInvalid(self.path_of(name), f"{value!r} is not a list of texts")
        return value

    def one_of(self, name: str, choices: Iterable[str]) -> str:
        """One of the given words."""
        choices = tuple(choices)
        value = self.text(name)
        if value not in choices:
            raise FieldInvalid(
                self.path_of(name),
                f"{value!r} is not one of {', '.join(choices)}{nearest(value, choices)}",
            )
        return value

    def whole(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number, at least `least`."""
        value = self.value(name) if default is None or name in self._values else default
        if type(value) is not int:  # Not isinstance: True is no number of tokens.
            raise FieldInvalid(self.path_of(name), f"{value!r} is not a whole number")
        if value < least:
            raise FieldInvalid(self.path_of(name), f"{value} is less than {least}")
        return value

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        above: float | None = None,
        least: float | None = None,
        most: float = math.inf,
    ) -> float:
        """A finite number, above one bound or at least another, and at most a third."""
        value = self.value(name) if default is None or name in self._values else default
        path = self.path_of(name)
        if type(value) not in {int, float} or not math.isfinite(value):
            raise FieldInvalid(path, f"{value!r} is not a number")
        if above is not None and not value > above:
            raise FieldInvalid(path, f"{value} is not above {above}")
        if least is not None and value < least:
            raise FieldInvalid(path, f"{value} is less than {least}")
        if value > most:
            raise FieldInvalid(path, f"{value} is more than {most}")
        return float(value)


def nearest(name: Any, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where no name is near."""
    matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else ""
