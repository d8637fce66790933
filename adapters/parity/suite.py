"""The evaluation suite: JSONL, one case a line, checked strictly; and the built-in probe suite.

A case: `{"id", "messages" | "prompt", "tools"?, "segment"?, "max_tokens"?, "expect"?}`. Pure but
for `builtin_probe`, which reads the file beside this one. Readers of the fields: `suite_fields`,
of the gold answers: `suite_expect`; advice on a valid suite: `suite_review`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from adapters.errors import SuiteInvalid
from adapters.parity.protocol import SuitePrompt
from adapters.parity.suite_expect import read_expect
from adapters.parity.suite_fields import (
    MAX_NAME_LENGTH,
    invalid,
    is_tool_error,
    only_fields,
    read_max_tokens,
    read_messages,
    read_object,
    read_text,
    read_tools,
    short,
)

MAX_SUITE_BYTES = 64 * 1024**2
MAX_CASES = 20_000
MAX_POOL_BYTES = 4 * 1024**3
"""Of a file that samples are drawn from; arbitrary, it is read into memory."""
MAX_ERRORS = 100
"""`scan_suite` stops looking after so many; arbitrary, more than anybody reads at once."""
DEFAULT_MAX_TOKENS = 32
DEFAULT_SEGMENT = "all"
_FIELDS = frozenset({"id", "messages", "prompt", "tools", "segment", "max_tokens", "expect"})
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and, where given, its gold answer; either `messages` or `prompt` is set.

    `expect` is exactly one of:

    - `{"tool_calls": [{"name", "arguments", "alternatives"?, "optional"?}]}`: these calls and no
      others, in any order; `[]` means that no tool may be called. `arguments` holds a right value
      for each argument. `alternatives` maps an argument to a list of further values, each a whole
      value that is just as right as the one in `arguments`. `optional` names arguments that may be
      left out. An argument in `alternatives` alone must be optional: it may be left out, or hold
      one of the alternatives. An argument that appears nowhere must not be given at all.
    - `{"json": object or array}`: the answer is this JSON value.
    - `{"text": str, "match"?: "exact" | "contains"}`: the answer is, or contains, this text;
      `exact` is the default.
    - `{"any_of": [expectation, ...]}`: one of them holds; `any_of` is not nested.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...] | None = None
    prompt: str | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    segment: str = DEFAULT_SEGMENT
    max_tokens: int = DEFAULT_MAX_TOKENS
    expect: Mapping[str, Any] | None = None

    @property
    def is_recovery(self) -> bool:
        """Whether the answer is to recover from a tool's error.

        True when the conversation ends with tool results (role `tool`) of which at least one is
        an error: a JSON object whose `error` is neither null, false nor empty, or a text that
        starts with the word "error" in any case.
        """
        for message in reversed(self.messages or ()):
            if message["role"] != "tool":
                return False
            if is_tool_error(message.get("content")):
                return True
        return False

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


@dataclass(frozen=True, slots=True)
class SuiteScan:
    """What a file holds: the cases that are valid, and what is wrong with the others."""

    cases: tuple[Case, ...]
    errors: tuple[SuiteInvalid, ...]


def parse_suite(data: bytes) -> Suite:
    """Read a suite. Blank lines are skipped; anything else that is not a case is refused.

    Raises:
        SuiteInvalid: with line (from 1; 0: the whole file), field, problem and fix.
    """
    scan = scan_suite(data, max_errors=1)
    if scan.errors:
        raise scan.errors[0]
    return Suite(scan.cases)


def parse_pool(data: bytes) -> Suite:
    """Read a suite of any number of cases, to draw a sample from; else as `parse_suite`."""
    return build_suite(
        (
            (line, read_object(line, text))
            for line, text in iter_lines(data, max_bytes=MAX_POOL_BYTES)
        ),
        max_cases=None,
    )


def scan_suite(data: bytes, *, max_errors: int = MAX_ERRORS) -> SuiteScan:
    """Read a suite to its end, whatever is wrong with it; never raises.

    In a line every field is looked at, and each field's first problem is named. After
    `max_errors` the scan ends.
    """
    reader = _SuiteReader(max_errors=max_errors, max_cases=MAX_CASES)
    reader.read(iter_lines(data), read_object)
    return SuiteScan(tuple(reader.cases), tuple(reader.errors[:max_errors]))


def build_suite(
    rows: Iterable[tuple[int, Mapping[str, Any]]], *, max_cases: int | None = MAX_CASES
) -> Suite:
    """A suite of objects that are not yet checked, each with the line that it comes from.

    Raises:
        SuiteInvalid: as `parse_suite`; what `rows` raises comes through.
    """
    reader = _SuiteReader(max_errors=1, max_cases=max_cases)
    reader.read(rows, lambda _line, raw: raw)
    if reader.errors:
        raise reader.errors[0]
    return Suite(tuple(reader.cases))


def format_suite(suite: Suite) -> bytes:
    """The suite as a file, one line a case; `parse_suite` reads the same cases from it."""
    lines = [json.dumps(case.to_json(), ensure_ascii=False) + "\n" for case in suite.cases]
    return "".join(lines).encode()


def iter_lines(data: bytes, *, max_bytes: int | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a JSONL file that are not blank, with their numbers from 1.

    Args:
        data: the file.
        max_bytes: None: as much as a suite may have.

    Raises:
        SuiteInvalid: at the first step: too large, or not UTF-8.
    """
    limit = max_bytes or MAX_SUITE_BYTES
    if len(data) > limit:
        raise invalid(0, "", f"larger than {limit} bytes", "split the file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise invalid(0, "", f"not UTF-8: {exc.reason}", "save the file as UTF-8") from exc
    # Not splitlines(): U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


class _SuiteReader:
    """Gathers the cases and the errors of one suite, in order; no method raises SuiteInvalid."""

    def __init__(self, *, max_errors: int, max_cases: int | None) -> None:
        self.cases: list[Case] = []
        self.errors: list[SuiteInvalid] = []
        self._max_errors, self._max_cases = max_errors, max_cases
        self._line_by_id: dict[str, int] = {}

    def read(
        self,
        rows: Iterable[tuple[int, _Row]],
        to_object: Callable[[int, _Row], Mapping[str, Any]],
    ) -> None:
        with self._noting():
            for index, (line, row) in enumerate(rows):
                if index == self._max_cases:
                    raise invalid(line, "", f"more than {index} cases", "sample the suite")
                with self._noting():
                    self._read_case(line, to_object(line, row))
                if len(self.errors) >= self._max_errors:
                    return
            if not self.cases and not self.errors:
                raise invalid(0, "", "no case", "write one JSON object per line")

    def _read_case(self, number: int, raw: Mapping[str, Any]) -> None:
        n_errors = len(self.errors)
        with self._noting():
            only_fields(number, "", raw, _FIELDS)
        fields: dict[str, Any] = {}
        for name, read in _READERS.items():
            with self._noting():
                fields[name] = read(number, raw)
        with self._noting():
            fields["expect"] = _expect(number, raw, tools=fields.get("tools"))
        with self._noting():
            self._remember(number, fields.get("id"))
        if len(self.errors) == n_errors:
            self.cases.append(Case(**fields))

    def _remember(self, number: int, case_id: str | None) -> None:
        if case_id is None:
            return
        first = self._line_by_id.setdefault(case_id, number)
        if first != number:
            problem = f"{short(case_id)} is already used in line {first}"
            raise invalid(number, "id", problem, "give every case its own id")

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except SuiteInvalid as exc:
            self.errors.append(exc)


def _id(line: int, raw: Mapping[str, Any]) -> str:
    return read_text(line, raw, "id", max_length=MAX_NAME_LENGTH)


def _messages(line: int, raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    if ("messages" in raw) == ("prompt" in raw):
        fix = "give either a list of messages or a prompt"
        raise invalid(line, "messages", "not exactly one of messages and prompt", fix)
    return read_messages(line, raw["messages"]) if "messages" in raw else None


def _prompt(line: int, raw: Mapping[str, Any]) -> str | None:
    return read_text(line, raw, "prompt") if "prompt" in raw else None


def _tools(line: int, raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    if "tools" not in raw:
        return None
    tools = read_tools(line, raw["tools"])
    if "messages" not in raw:
        raise invalid(line, "tools", "tools with a plain prompt", "use messages")
    return tools


def _segment(line: int, raw: Mapping[str, Any]) -> str:
    if "segment" not in raw:
        return DEFAULT_SEGMENT
    return read_text(line, raw, "segment", max_length=MAX_NAME_LENGTH)


def _max_tokens(line: int, raw: Mapping[str, Any]) -> int:
    return read_max_tokens(line, raw.get("max_tokens", DEFAULT_MAX_TOKENS))


def _expect(
    line: int, raw: Mapping[str, Any], *, tools: Sequence[Mapping[str, Any]] | None
) -> Mapping[str, Any] | None:
    """The gold; `tools` is None where the case has none, or none that can be read."""
    if "expect" not in raw:
        return None
    names = None if tools is None else frozenset(tool["function"]["name"] for tool in tools)
    return read_expect(line, raw["expect"], tool_names=names)


_READERS: Mapping[str, Callable[[int, Mapping[str, Any]], Any]] = {
    "id": _id,
    "messages": _messages,
    "prompt": _prompt,
    "tools": _tools,
    "segment": _segment,
    "max_tokens": _max_tokens,
}
