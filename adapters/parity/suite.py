"""The evaluation suite: JSONL, one case a line, checked strictly; and the built-in probe suite.

A case: `{"id", "messages" | "prompt", "tools"?, "segment"?, "max_tokens"?, "expect"?}`. Pure but
for `builtin_probe`, which reads the file beside this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adapters.errors import SuiteInvalid
from adapters.parity.protocol import SuitePrompt

MAX_SUITE_BYTES = 64 * 1024**2
MAX_CASES = 20_000
MAX_TOKENS_LIMIT = 8_192
DEFAULT_MAX_TOKENS = 32
DEFAULT_SEGMENT = "all"
_MAX_ID_LENGTH = 200
_FIELDS = frozenset({"id", "messages", "prompt", "tools", "segment", "max_tokens", "expect"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_EXPECTATIONS = frozenset({"tool_calls", "json", "text", "any_of"})


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and, where given, its gold answer; either `messages` or `prompt` is set."""

    id: str
    messages: tuple[Mapping[str, Any], ...] | None = None
    prompt: str | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    segment: str = DEFAULT_SEGMENT
    max_tokens: int = DEFAULT_MAX_TOKENS
    expect: Mapping[str, Any] | None = None

    def to_prompt(self) -> SuitePrompt:
        """What the standalone side turns into token ids."""
        return SuitePrompt(
            case_id=self.id,
            max_tokens=self.max_tokens,
            messages=None if self.messages is None else [dict(item) for item in self.messages],
            tools=None if self.tools is None else [dict(item) for item in self.tools],
            prompt=self.prompt,
        )

    def to_json(self) -> dict[str, Any]:
        """The case as a suite line, defaults written out."""
        full = {
            "id": self.id,
            "messages": None if self.messages is None else [dict(m) for m in self.messages],
            "prompt": self.prompt,
            "tools": None if self.tools is None else [dict(tool) for tool in self.tools],
            "segment": self.segment,
            "max_tokens": self.max_tokens,
            "expect": None if self.expect is None else dict(self.expect),
        }
        return {key: value for key, value in full.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases in file order. `digest` depends on content alone, not on spelling or key order."""

    cases: tuple[Case, ...]
    is_builtin: bool = False

    @property
    def digest(self) -> str:
        """`sha256:` over the cases' canonical JSON lines."""
        digest = hashlib.sha256()
        for case in self.cases:
            line = json.dumps(case.to_json(), sort_keys=True, separators=(",", ":"))
            digest.update(line.encode() + b"\n")
        return f"sha256:{digest.hexdigest()}"

    @property
    def proves(self) -> str:
        """One sentence on what a PASS with this suite means."""
        if self.is_builtin:
            return (
                "The built-in probe suite proves numeric parity only: that the engine computes "
                "what the standalone model computes, not that the answers are good."
            )
        n_gold = sum(case.expect is not None for case in self.cases)
        return f"A suite of {len(self.cases)} cases, {n_gold} of them with a gold answer."

    def to_prompts(self) -> list[SuitePrompt]:
        """All cases, for `ReferenceClient.tokenize`."""
        return [case.to_prompt() for case in self.cases]


@cache
def builtin_probe() -> Suite:
    """Short prompts of many kinds, for adapters that come without a suite."""
    data = (Path(__file__).parent / "builtin_probe.jsonl").read_bytes()
    return Suite(parse_suite(data).cases, is_builtin=True)


def parse_suite(data: bytes) -> Suite:
    """Read a suite. Blank lines are skipped; anything else that is not a case is refused.

    Raises:
        SuiteInvalid: with line (from 1; 0: the whole file), field, problem and fix.
    """
    if len(data) > MAX_SUITE_BYTES:
        raise _invalid(0, "", f"larger than {MAX_SUITE_BYTES} bytes", "split the suite")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _invalid(0, "", f"not UTF-8: {exc.reason}", "save the file as UTF-8") from exc
    cases: list[Case] = []
    lines: dict[str, int] = {}
    # Not splitlines(): U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        case = _parse_line(number, line)
        if case.id in lines:
            problem = f"{case.id!r} is already used in line {lines[case.id]}"
            raise _invalid(number, "id", problem, "give every case its own id")
        lines[case.id] = number
        cases.append(case)
        if len(cases) > MAX_CASES:
            raise _invalid(number, "", f"more than {MAX_CASES} cases", "sample the suite")
    if not cases:
        raise _invalid(0, "", "no case", "write one JSON object per line")
    return Suite(tuple(cases))


def _invalid(line: int, field: str, problem: str, fix: str) -> SuiteInvalid:
    return SuiteInvalid(line=line, field=field, problem=problem, fix=fix)


def _parse_line(number: int, line: str) -> Case:
    try:
        raw = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise _invalid(number, "", f"not JSON: {exc}", "write one JSON object per line") from exc
    _check_values(number, raw)
    if not isinstance(raw, dict):
        raise _invalid(number, "", "not an object", 'write {"id": ..., "messages": [...]}')
    unknown = sorted(set(raw) - _FIELDS)
    if unknown:
        fix = f"known fields are {', '.join(sorted(_FIELDS))}"
        raise _invalid(number, unknown[0], "unknown field", fix)
    if ("messages" in raw) == ("prompt" in raw):
        fix = "give either a list of messages or a prompt"
        raise _invalid(number, "messages", "not exactly one of messages and prompt", fix)
    return Case(
        id=_text(number, raw, "id", max_length=_MAX_ID_LENGTH),
        messages=_messages(number, raw["messages"]) if "messages" in raw else None,
        prompt=_text(number, raw, "prompt") if "prompt" in raw else None,
        tools=_tools(number, raw),
        segment=_text(number, raw, "segment", max_length=_MAX_ID_LENGTH)
        if "segment" in raw
        else DEFAULT_SEGMENT,
        max_tokens=_max_tokens(number, raw),
        expect=_expect(number, raw),
    )


def _check_values(number: int, raw: Any) -> None:
    """What JSON can spell and no other reader takes: half surrogates, 1e999, endless nesting."""
    try:
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as exc:
        problem = f"a value that cannot be written again: {type(exc).__name__}"
        raise _invalid(number, "", problem, "use valid Unicode and ordinary numbers") from exc


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _text(number: int, raw: Mapping[str, Any], field: str, *, max_length: int | None = None) -> str:
    value = raw.get(field)
    if not isinstance(value, str) or not value:
        raise _invalid(number, field, f"found {_short(value)}", "write a text that is not empty")
    if max_length is not None and len(value) > max_length:
        raise _invalid(number, field, f"{len(value)} characters", f"use at most {max_length}")
    return value


def _messages(number: int, value: Any) -> tuple[Mapping[str, Any], ...]:
    fix = 'write [{"role": "user", "content": "..."}]'
    if not isinstance(value, list) or not value:
        raise _invalid(number, "messages", f"found {_short(value)}", fix)
    for index, item in enumerate(value):
        field = f"messages[{index}]"
        if not isinstance(item, dict):
            raise _invalid(number, field, f"found {_short(item)}", fix)
        if not isinstance(item.get("role"), str) or item["role"] not in _ROLES:
            roles = f"use one of {', '.join(sorted(_ROLES))}"
            raise _invalid(number, f"{field}.role", f"found {_short(item.get('role'))}", roles)
        if "content" not in item and "tool_calls" not in item:
            raise _invalid(number, f"{field}.content", "absent", fix)
    return tuple(value)


def _tools(number: int, raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    if "tools" not in raw:
        return None
    value = raw["tools"]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        fix = "write a list of tool definitions as in the OpenAI API"
        raise _invalid(number, "tools", f"found {_short(value)}", fix)
    if "messages" not in raw:
        raise _invalid(number, "tools", "tools with a plain prompt", "use messages")
    return tuple(value)


def _max_tokens(number: int, raw: Mapping[str, Any]) -> int:
    value = raw.get("max_tokens", DEFAULT_MAX_TOKENS)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if not is_count or not 1 <= value <= MAX_TOKENS_LIMIT:
        fix = f"use a whole number from 1 to {MAX_TOKENS_LIMIT}"
        raise _invalid(number, "max_tokens", f"found {_short(value)}", fix)
    return int(value)


def _expect(number: int, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "expect" not in raw:
        return None
    value = raw["expect"]
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= _EXPECTATIONS:
        fix = f"use exactly one of {', '.join(sorted(_EXPECTATIONS))}"
        raise _invalid(number, "expect", f"found {_short(value)}", fix)
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
