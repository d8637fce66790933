"""Advice on a valid suite: what will make its verdict weak. Pure; refuses nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adapters.parity.suite import Case, Suite
from adapters.parity.suite_expect import choices_of, shortest_gold

MIN_CASES_PER_SEGMENT = 20
"""Below it a segment is shown in the report, and gated by nothing."""
_CHARACTERS_PER_TOKEN = 4
"""Of English text; JSON has fewer, so an answer needs at least its characters divided by this."""
_SHOWN_IDS = 5


class SuiteNoteCode(StrEnum):
    """What the review may say; stable."""

    NO_GOLD = "no_gold"
    SMALL_SEGMENT = "small_segment"
    MAX_TOKENS_BELOW_GOLD = "max_tokens_below_gold"
    DUPLICATE_PROMPT = "duplicate_prompt"
    UNKNOWN_ARGUMENT = "unknown_argument"
    ENDS_WITH_ASSISTANT = "ends_with_assistant"


@dataclass(frozen=True, slots=True)
class SuiteNote:
    """One piece of advice; `case_ids` are the cases that it is about, in file order."""

    code: SuiteNoteCode
    text: str
    fix: str
    segment: str | None = None
    case_ids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "code": self.code.value,
            "text": self.text,
            "fix": self.fix,
            "segment": self.segment,
            "case_ids": list(self.case_ids),
        }


def review_suite(suite: Suite) -> tuple[SuiteNote, ...]:
    """Notes on a suite that is valid and could be better; empty when there is nothing to say.

    - `no_gold`: no case has a gold answer, so levels 0 to 2 alone are gated.
    - `small_segment`: a segment has fewer than 20 cases and is not gated by itself.
    - `max_tokens_below_gold`: an answer as long as the gold is cut off; estimated at four
      characters a token, which is too kind to JSON.
    - `duplicate_prompt`: cases that ask the same count twice in every rate and interval.
    - `unknown_argument`: a gold call gives an argument that the tool's schema does not know.
    - `ends_with_assistant`: the last message is the assistant's, so there is nothing to answer.
    """
    return tuple(
        note
        for rule in (
            _no_gold,
            _small_segments,
            _short_limits,
            _duplicates,
            _unknown_arguments,
            _no_questions,
        )
        for note in rule(suite)
    )


def _no_gold(suite: Suite) -> Iterator[SuiteNote]:
    if all(case.expect is None for case in suite.cases):
        yield SuiteNote(
            SuiteNoteCode.NO_GOLD,
            "No case has a gold answer: the gate compares numbers and answers, and knows nothing "
            "about the task.",
            "add expect to the cases whose right answer is known",
        )


def _small_segments(suite: Suite) -> Iterator[SuiteNote]:
    sizes = Counter(case.segment for case in suite.cases)
    for segment, size in sizes.items():
        if size < MIN_CASES_PER_SEGMENT:
            yield SuiteNote(
                SuiteNoteCode.SMALL_SEGMENT,
                f"Segment {segment!r} has {size} of the {MIN_CASES_PER_SEGMENT} cases that it "
                "takes to gate a segment by itself.",
                "add cases, or join it with a segment that is like it",
                segment=segment,
            )


def _short_limits(suite: Suite) -> Iterator[SuiteNote]:
    needed = {case.id: tokens_at_least(case) for case in suite.cases}
    cut = [case for case in suite.cases if case.max_tokens < needed[case.id]]
    if cut:
        worst = max(cut, key=lambda case: needed[case.id])
        yield SuiteNote(
            SuiteNoteCode.MAX_TOKENS_BELOW_GOLD,
            f"{_cases(len(cut))} with max_tokens below the gold answer's length: {worst.id!r} has "
            f"{worst.max_tokens} and needs about {needed[worst.id]}.",
            "raise max_tokens of these cases",
            case_ids=tuple(case.id for case in cut),
        )


def tokens_at_least(case: Case) -> int:
    """A low estimate of the tokens of the shortest right answer; 0 without a gold answer."""
    if case.expect is None:
        return 0
    return math.ceil(len(shortest_gold(case.expect)) / _CHARACTERS_PER_TOKEN)


def prompt_key(case: Case) -> str:
    """The same for two cases that ask the same: messages or prompt, and tools."""
    asked = [case.prompt, case.messages, case.tools]
    return json.dumps(asked, sort_keys=True, separators=(",", ":"))


def _duplicates(suite: Suite) -> Iterator[SuiteNote]:
    ids_by_prompt: dict[str, list[str]] = {}
    for case in suite.cases:
        ids_by_prompt.setdefault(prompt_key(case), []).append(case.id)
    groups = [ids for ids in ids_by_prompt.values() if len(ids) > 1]
    if groups:
        n_extra = sum(len(ids) - 1 for ids in groups)
        yield SuiteNote(
            SuiteNoteCode.DUPLICATE_PROMPT,
            f"{_cases(n_extra)} of {len(suite.cases)} with the question of an earlier case, first "
            f"{_names(groups[0])}: intervals come out narrower than the suite deserves.",
            "keep one of each",
            case_ids=tuple(case_id for ids in groups for case_id in ids),
        )


def _unknown_arguments(suite: Suite) -> Iterator[SuiteNote]:
    found = {case.id: names for case in suite.cases if (names := _unknown_names(case))}
    if found:
        first, names = next(iter(found.items()))
        yield SuiteNote(
            SuiteNoteCode.UNKNOWN_ARGUMENT,
            f"{_cases(len(found))} with a gold argument that the tool's parameters do not list: "
            f"{_names(names)} in {first!r}.",
            "correct the gold call, or the tool's parameters",
            case_ids=tuple(found),
        )


def _unknown_names(case: Case) -> list[str]:
    schemas = {tool["function"]["name"]: tool["function"] for tool in case.tools or ()}
    names = []
    for choice in choices_of(case.expect or {"any_of": []}):
        for call in choice.get("tool_calls", ()):
            properties = schemas.get(call["name"], {}).get("parameters", {}).get("properties")
            if properties is not None:
                names += [name for name in call["arguments"] if name not in properties]
    return names


def _no_questions(suite: Suite) -> Iterator[SuiteNote]:
    ids = tuple(
        case.id
        for case in suite.cases
        if case.messages is not None and case.messages[-1]["role"] == "assistant"
    )
    if ids:
        yield SuiteNote(
            SuiteNoteCode.ENDS_WITH_ASSISTANT,
            f"{_cases(len(ids))} with a last message of the assistant, first {ids[0]!r}.",
            "remove the last message; where it is the right answer, write it as expect",
            case_ids=ids,
        )


def _cases(n: int) -> str:
    return f"{n} case{'' if n == 1 else 's'}"


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN_IDS])
    return f"{shown} and {len(names) - _SHOWN_IDS} more" if len(names) > _SHOWN_IDS else shown
