"""Importers of suites: conversations in the OpenAI fine-tuning form; the leaderboard's beside it.

Pure: bytes in, a suite out. What an importer makes is checked as `parse_suite` checks a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapters.errors import SuiteInvalid
from adapters.parity.suite import (
    DEFAULT_SEGMENT,
    MAX_POOL_BYTES,
    Case,
    Suite,
    build_suite,
    iter_lines,
)
from adapters.parity.suite_bfcl import import_bfcl
from adapters.parity.suite_expect import room_for
from adapters.parity.suite_fields import (
    content_id,
    invalid,
    only_fields,
    read_messages,
    read_object,
    short,
    text_of,
)

__all__ = ["import_bfcl", "import_openai_messages", "merge_suites"]

_FIELDS = frozenset({"messages", "tools", "id", "segment", "max_tokens"})
_IGNORED = frozenset({"parallel_tool_calls", "metadata"})
"""Fields of the fine-tuning form that say how to train, not what to answer."""


def import_openai_messages(
    data: bytes, *, segment: str = DEFAULT_SEGMENT, max_tokens: int | None = None
) -> Suite:
    """A suite of recorded conversations: `{"messages": [...], "tools"?: [...]}`, one a line.

    The last message must be the assistant's; it becomes the gold answer and leaves the messages:
    its `tool_calls` if it has some, its content as JSON if that is an object, or else as text.
    `id`, `segment` and `max_tokens` of a line are kept. A line without `id` gets one from its
    content, and is left out if the same line was there before. There may be more cases than a
    suite holds: draw a sample.

    Args:
        data: the file.
        segment: for lines without their own.
        max_tokens: for lines without their own; None: by the gold answer's length.

    Raises:
        SuiteInvalid: with line, field, problem and fix.
    """
    return build_suite(_openai_rows(data, segment, max_tokens), max_cases=None)


def merge_suites(suites: Iterable[Suite]) -> Suite:
    """All cases in order, a case that stands in several suites once.

    Raises:
        SuiteInvalid: two different cases have one id.
    """
    cases: dict[str, Case] = {}
    for case in (case for suite in suites for case in suite.cases):
        if cases.setdefault(case.id, case) != case:
            problem = f"{short(case.id)} is the id of two different cases"
            raise invalid(0, "id", problem, "import the files into suites of their own")
    return Suite(tuple(cases.values()))


def _openai_rows(
    data: bytes, segment: str, max_tokens: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    seen: set[str] = set()
    for line, text in iter_lines(data, max_bytes=MAX_POOL_BYTES):
        raw = read_object(line, text)
        only_fields(line, "", raw, _FIELDS | _IGNORED)
        messages = read_messages(line, raw.get("messages"))
        expect = _gold(line, messages)
        row = {
            "messages": [_without_weight(item) for item in messages[:-1]],
            "expect": expect,
            "segment": raw.get("segment", segment),
            "max_tokens": raw.get("max_tokens", max_tokens or room_for(expect)),
        }
        if "tools" in raw:
            row["tools"] = raw["tools"]
        if "id" not in raw:
            row["id"] = content_id("openai", [row["messages"], row.get("tools"), expect])
            if row["id"] in seen:
                continue
            seen.add(row["id"])
        else:
            row["id"] = raw["id"]
        yield line, row


def _gold(line: int, messages: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    at, last = f"messages[{len(messages) - 1}]", messages[-1]
    if last["role"] != "assistant":
        fix = "end every conversation with the assistant's right answer, or import it as traffic"
        raise invalid(line, f"{at}.role", f"the last message is of {last['role']}", fix)
    if len(messages) == 1:
        raise invalid(line, "messages", "nothing before the answer", "add what was asked")
    calls = last.get("tool_calls")
    if calls:
        return {
            "tool_calls": [_call(line, f"{at}.tool_calls[{i}]", c) for i, c in enumerate(calls)]
        }
    text = text_of(last.get("content"))
    if not text.strip():
        raise invalid(line, at, "neither content nor tool_calls", "give the right answer")
    try:
        return {"json": read_object(line, text)}
    except SuiteInvalid:
        return {"text": text}


def _call(line: int, at: str, call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = read_object(line, arguments or "{}")
        except SuiteInvalid as exc:
            problem = f"{short(arguments)} is no JSON object"
            fix = "write the arguments as the JSON text of an object"
            raise invalid(line, f"{at}.function.arguments", problem, fix) from exc
    return {"name": function["name"], "arguments": arguments}


def _without_weight(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "weight"}
