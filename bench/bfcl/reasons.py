"""Why the leaderboard and we judge one answer differently; a reason counts only where it is seen.

Each check looks at the changed argument's value and the allowed ones, with means of its own rather
than ours, so that a mistake in our normalisation is not explained by itself.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from bench.bfcl.leaderboard import Question, leaderboard_passes
from bench.bfcl.mutations import Answer

UNEXPLAINED = "unexplained"
REASONS = {
    "letters and punctuation": "they drop case, blanks, quotes' kind and ,./-_*^ from texts; "
    "we compare letters, because an id or a path is another one then",
    "empty list for left out": "they read the mark for 'may be left out' as an empty list too",
    "number's form": "we take 5.0, and '5' where the schema says number, for 5; "
    "they want the declared Python type",
    "boolean as text": "we take 'true' for true where the schema says boolean; they do not",
    "white space": "we take any run of white space for one blank; they drop single blanks only, "
    "and none inside objects' lists",
    "null for left out": "we take null for an argument that may be left out; they refuse it",
    "date's form": "we take two forms of one unambiguous date for equal; they compare letters",
    "order of matching": "they match parallel calls first come, first served; we look for any "
    "complete matching",
}
_DATES = ("%Y-%m-%d", "%B %d, %Y", "%B %d %Y", "%b %d, %Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y")
_DATES_RARE = ("%d-%m-%Y", "%d %B %Y", "%d %b %Y", "%Y/%m/%d", "%B %dst, %Y", "%B %dth, %Y")


def explain(question: Question, answer: Answer, *, theirs: bool) -> str:
    """The name of the reason for which the verdicts differ, or `UNEXPLAINED`."""
    if answer.argument is None:
        is_order = not theirs and any(
            leaderboard_passes(question, list(calls))
            for calls in itertools.permutations(answer.calls)
        )
        return "order of matching" if is_order else UNEXPLAINED
    may_be_left_out = "" in question.allowed(*answer.argument)
    if answer.value is None:
        return "null for left out" if may_be_left_out and not theirs else UNEXPLAINED
    if theirs and may_be_left_out and answer.value == []:
        return "empty list for left out"
    allowed = question.whole_values(*answer.argument)
    for name, form in _LENIENT if theirs else _STRICT:
        if any(_same(form(answer.value), form(value)) for value in allowed):
            return name
    return UNEXPLAINED


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        return change(value)

    return changed


def _folded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"')


def _as_float(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _as_boolean(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _without_space(value: Any) -> Any:
    return "".join(value.split()) if isinstance(value, str) else value


def _as_day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    days = {day.isoformat() for form in (*_DATES, *_DATES_RARE) if (day := _read_day(value, form))}
    # Month first or day first is not the question here: the day is the one that both may mean.
    return days.pop() if len(days) == 1 else value


def _read_day(value: str, form: str) -> date | None:
    try:
        return datetime.strptime(value, form).date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None


_LENIENT = (("letters and punctuation", _each(_folded)),)
_STRICT = (
    ("number's form", _each(_as_float)),
    ("boolean as text", _each(_as_boolean)),
    ("white space", _each(_without_space)),
    ("date's form", _each(_as_day)),
)
