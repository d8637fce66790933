"""Levels 2 and 3 of the gate: are two answers the same, and is an answer right?

Pure: text and gold in, measures out. Neither torch nor the engine is known here; `docs/scoring.md`
defines every measure with an example.
"""

from __future__ import annotations

from adapters.parity.scoring.answers import AnswerEquality, compare_answers
from adapters.parity.scoring.case_score import CaseScore, score_answer
from adapters.parity.scoring.metrics import Mean, TaskMetrics, summarise
from adapters.parity.scoring.tool_calls import ParsedAnswer, ParsedCall, parse_tool_calls

__all__ = [
    "AnswerEquality",
    "CaseScore",
    "Mean",
    "ParsedAnswer",
    "ParsedCall",
    "TaskMetrics",
    "compare_answers",
    "parse_tool_calls",
    "score_answer",
    "summarise",
]
