"""Level 2: do two answers to one case say the same?"""

from __future__ import annotations

from enum import StrEnum

from adapters.parity.scoring.tool_calls import parse_tool_calls
from adapters.parity.suite import Case


class AnswerEquality(StrEnum):
    """Two answers to one case are ..."""

    EXACT = "exact"
    EQUIVALENT = "equivalent"
    DIFFERENT = "different"


def compare_answers(case: Case, first: str, second: str) -> AnswerEquality:
    """Whether two answers are equal to the letter, mean the same, or differ."""
    if first == second:
        return AnswerEquality.EXACT
    one, other = parse_tool_calls(first), parse_tool_calls(second)
    if one.calls and one.calls == other.calls:
        return AnswerEquality.EQUIVALENT
    if first.split() == second.split():
        return AnswerEquality.EQUIVALENT
    return AnswerEquality.DIFFERENT
