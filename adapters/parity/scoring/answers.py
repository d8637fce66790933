"""Level 2: do two answers to one case say the same?"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from adapters.parity.scoring.json_values import decode_answer
from adapters.parity.scoring.normalise import canonical, normalise, normalise_text
from adapters.parity.scoring.parsed import Malformed, without_thought
from adapters.parity.scoring.recovery import call_key
from adapters.parity.scoring.schemas import tool_schemas
from adapters.parity.scoring.tool_calls import parse_tool_calls
from adapters.parity.suite import Case


class AnswerEquality(StrEnum):
    """Two answers to one case are ..."""

    EXACT = "exact"
    EQUIVALENT = "equivalent"
    DIFFERENT = "different"


def compare_answers(case: Case, first: str, second: str) -> AnswerEquality:
    """Whether two answers are equal to the letter, mean the same, or differ.

    They mean the same when both make the same calls (in any order, arguments normalised under the
    tools' schemas; the words around them do not matter), or both are the same JSON after
    normalisation, or they are the same text after white-space normalisation. An answer with a call
    that cannot be read means nothing, so then only the text counts.
    """
    if first == second:
        return AnswerEquality.EXACT
    is_same = (
        normalise_text(first) == normalise_text(second)
        or _make_same_calls(case, first, second)
        or _are_same_json(first, second)
    )
    return AnswerEquality.EQUIVALENT if is_same else AnswerEquality.DIFFERENT


def _make_same_calls(case: Case, first: str, second: str) -> bool:
    one, other = parse_tool_calls(first), parse_tool_calls(second)
    if not one.calls or not other.calls or one.problem or other.problem:
        return False
    schemas = tool_schemas(case.tools)
    return Counter(call_key(call, schemas) for call in one.calls) == Counter(
        call_key(call, schemas) for call in other.calls
    )


def _are_same_json(first: str, second: str) -> bool:
    # Not JSON within prose: there the prose may be the answer.
    one = decode_answer(without_thought(first), is_embedded_allowed=False)
    other = decode_answer(without_thought(second), is_embedded_allowed=False)
    if isinstance(one, Malformed) or isinstance(other, Malformed):
        return False
    return canonical(normalise(one)) == canonical(normalise(other))
