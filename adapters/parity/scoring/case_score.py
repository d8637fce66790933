"""Level 3: one answer against its case's gold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.parity.scoring.tool_calls import parse_tool_calls
from adapters.parity.suite import Case


@dataclass(frozen=True, slots=True)
class CaseScore:
    """The measures of one answer; a measure that its gold does not define is None.

    `score` is in 0..1 and is the one number per case that comparisons use; `is_pass` is 1 only
    where every part is right.
    """

    case_id: str
    kind: str
    is_pass: bool
    score: float
    tool_selection: float | None = None
    argument_exact: bool | None = None
    argument_f1: float | None = None
    n_fields: int | None = None
    n_hallucinated: int | None = None
    recovery: bool | None = None
    trajectory_delta: int | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields, as the report keeps them."""
        return asdict(self)


def score_answer(
    case: Case, text: str, *, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> CaseScore | None:
    """The measures of an answer to a case; None when the case has no gold."""
    if case.expect is None:
        return None
    return _score(case.id, case.expect, text, tool_calls)


def _score(case_id: str, expect: Mapping[str, Any], text: str, tool_calls: Any) -> CaseScore:
    if "any_of" in expect:
        scores = [_score(case_id, item, text, tool_calls) for item in expect["any_of"]]
        return max(scores, key=lambda item: (item.is_pass, item.score))
    if "text" in expect:
        wanted, given = " ".join(expect["text"].split()), " ".join(text.split())
        is_pass = wanted in given if expect.get("match") == "contains" else wanted == given
        return CaseScore(case_id, "text", is_pass, float(is_pass))
    if "json" in expect:
        try:
            is_pass = json.loads(text) == expect["json"]
        except ValueError:
            is_pass = False
        return CaseScore(case_id, "json", is_pass, float(is_pass))
    calls = parse_tool_calls(text, tool_calls=tool_calls).calls
    given_calls = [{"name": call.name, "arguments": call.arguments} for call in calls]
    gold = expect["tool_calls"]
    names = [item["name"] for item in gold]
    is_pass = given_calls == gold
    return CaseScore(
        case_id,
        "tool_calls",
        is_pass,
        float(is_pass),
        tool_selection=float(sorted(names) == sorted(call.name for call in calls)),
        argument_exact=is_pass,
        trajectory_delta=len(calls) - len(gold),
    )
