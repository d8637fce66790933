"""One call's arguments, or one JSON answer, against the gold: exact, and field by field.

A field is a value that is neither object nor array, at its path; both sides are normalised first.
A field that the gold lets be null or does not have, filled, is hallucinated: wrong, without credit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.parity.scoring.normalise import canonical, enum_members, normalise
from adapters.parity.scoring.schemas import (
    NO_SCHEMA,
    Schema,
    item_schema,
    property_schema,
    required_names,
    resolve,
)

REQUIRED_WEIGHT = 2.0
"""Weight in F1 of a field that the schema requires at every level above it; others weigh 1.

Arbitrary, chosen so that a call that lacks what the tool cannot do without loses more than one
that leaves out an extra, and so that extras still count."""

Path = tuple[str | int, ...]
_EDGE_PUNCTUATION = ".,;:!?\"'()[]{}"


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf. `is_whole`: a member of an enum, equal or not, without partial credit."""

    value: Any
    weight: float
    is_whole: bool

    @property
    def is_filled(self) -> bool:
        """Whether it says something: not null, not an empty object or array."""
        return self.value is not None and self.value not in ([], {})


@dataclass(frozen=True, slots=True)
class ArgumentScore:
    """What comparing gave; scores of several arguments add up.

    `weight_right` of `weight_total` is the F1 of the fields, each times its weight. `n_fields` are
    the fields that the answer fills, `n_hallucinated` those of them that the gold does not have.
    `wrong` names the paths that are not right.
    """

    is_exact: bool = True
    weight_right: float = 0.0
    weight_total: float = 0.0
    n_fields: int = 0
    n_hallucinated: int = 0
    wrong: tuple[str, ...] = ()

    @property
    def f1(self) -> float:
        """In 0..1; without any field on either side the two agree, so 1."""
        return self.weight_right / self.weight_total if self.weight_total else 1.0

    def __add__(self, other: ArgumentScore) -> ArgumentScore:
        return ArgumentScore(
            self.is_exact and other.is_exact,
            self.weight_right + other.weight_right,
            self.weight_total + other.weight_total,
            self.n_fields + other.n_fields,
            self.n_hallucinated + other.n_hallucinated,
            self.wrong + other.wrong,
        )


def compare_arguments(
    gold: Mapping[str, Any], given: Mapping[str, Any], schema: Schema = NO_SCHEMA
) -> ArgumentScore:
    """A call's arguments against a gold call, `{"arguments", "alternatives"?, "optional"?}`.

    For each argument the best of the gold's value and its alternatives counts. An optional
    argument may be left out, or be null, at no cost.
    """
    root, schema = schema, resolve(schema, schema)
    arguments, alternatives = gold["arguments"], gold.get("alternatives", {})
    total = ArgumentScore()
    for name in sorted({*arguments, *alternatives, *given}):
        allowed = [arguments[name]] if name in arguments else []
        allowed += alternatives.get(name, ())
        if name in gold.get("optional", ()):
            allowed.append(None)
        place = _Place((name,), property_schema(schema, name, root), root, _weight(schema, name))
        total += _compare_one(place, allowed or [None], given.get(name))
    return total


def compare_json(gold: Any, given: Any) -> ArgumentScore:
    """A JSON answer against the gold's value, without a schema."""
    place = _Place((), NO_SCHEMA, NO_SCHEMA, 1.0)
    return _compare_one(place, [gold], given)


def token_f1(gold: str, given: str) -> float:
    """Harmonic mean of precision and recall over the multisets of tokens, in 0..1.

    A token stands between white space, without punctuation at its ends, so that an id, a date or
    an e-mail address is one token: right or wrong. (The measure of SQuAD, but case counts.)
    """
    wanted, found = Counter(_tokens(gold)), Counter(_tokens(given))
    n_common = (wanted & found).total()
    return 2 * n_common / (wanted.total() + found.total()) if n_common else 0.0


def show_path(path: Path) -> str:
    """A path as people write it: `filters[0].city`; keys that are no words are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"\w{1,64}", part, re.ASCII):
            text += f".{part}" if text else part
        else:
            text += f"[{ascii(part)[:64]}]"
    return text or "answer"


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    schema: Schema
    root: Schema
    weight: float

    def fields(self, value: Any) -> dict[Path, Field]:
        return dict(_flatten(self, value))


def _weight(schema: Schema, name: str) -> float:
    return REQUIRED_WEIGHT if name in required_names(schema) else 1.0


def _flatten(place: _Place, value: Any) -> Iterator[tuple[Path, Field]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            inner = property_schema(place.schema, key, place.root)
            weight = min(place.weight, _weight(place.schema, key))
            yield from _flatten(_Place((*place.path, key), inner, place.root, weight), item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            inner = item_schema(place.schema, index, place.root)
            yield from _flatten(_Place((*place.path, index), inner, place.root, place.weight), item)
    else:
        yield place.path, Field(value, place.weight, bool(enum_members(place.schema)))


def _compare_one(place: _Place, allowed: Sequence[Any], given: Any) -> ArgumentScore:
    found = _normalise_at(place, given)
    scores = [_compare_values(place, _normalise_at(place, value), found) for value in allowed]
    # A value left out is measured against what should be there, not against "may be null".
    return max(scores, key=lambda score: (score.is_exact, score.f1, score.weight_total))


def _normalise_at(place: _Place, value: Any) -> Any:
    # The place's schema may point into the tool's own definitions, so those go with it.
    definitions = {key: place.root[key] for key in ("$defs", "definitions") if key in place.root}
    return normalise(value, {**place.schema, **definitions})


def _compare_values(place: _Place, gold: Any, given: Any) -> ArgumentScore:
    wanted = {} if gold is None else place.fields(gold)
    found = {} if given is None else place.fields(given)
    right = total = 0.0
    n_hallucinated = 0
    wrong: list[str] = []
    for path in {**wanted, **found}:
        one, other = wanted.get(path), found.get(path)
        weight = (one or other or _NOTHING).weight
        credit = 0.0 if one is None or other is None else _credit(one, other)
        total += weight
        right += weight * credit
        if other is not None and other.is_filled and (one is None or one.value is None):
            n_hallucinated += 1
        if credit < 1 or _differ(one, other):
            wrong.append(show_path(path))
    n_fields = sum(field.is_filled for field in found.values())
    is_exact = canonical(gold) == canonical(given)
    return ArgumentScore(is_exact, right, total, n_fields, n_hallucinated, tuple(wrong))


_NOTHING = Field(None, 1.0, True)


def _differ(one: Field | None, other: Field | None) -> bool:
    return one is None or other is None or canonical(one.value) != canonical(other.value)


def _credit(gold: Field, given: Field) -> float:
    if canonical(gold.value) == canonical(given.value):
        return 1.0
    if gold.is_whole or not isinstance(gold.value, str) or not isinstance(given.value, str):
        return 0.0
    return token_f1(gold.value, given.value)


def _tokens(text: str) -> list[str]:
    return [token.strip(_EDGE_PUNCTUATION) or token for token in text.split()]
